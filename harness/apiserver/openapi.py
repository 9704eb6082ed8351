"""The parts of OpenAPI that clients use: kinds and their fields, and fieldValidation of writes.

fields.json holds only names and types, one string per field: "List[V1ServicePort]", prefixed with "!" if required.
Descriptions are left to the real API's documentation.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from harness.apiserver.protobuf import encoded
from harness.kube.patches import MERGE_KEYS, MERGED_VALUES
from harness.kube.resources import KINDS, Kind

GVK = "x-kubernetes-group-version-kind"
PROTOBUF, PROTOBUF_ANSWERED = (
    f"application/com.github.proto-openapi.spec.v2{sign}v1.0+protobuf" for sign in ("@", ".")
)
"""As requested and as returned: the first is not a valid media type."""
QUERY = [
    {"name": name, "in": "query", "schema": {"type": "string"}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]
SPECIAL = {
    "any": {"type": "object"},
    "number or name": {"type": "string", "format": "int-or-string"},
    "time": {"type": "string", "format": "date-time"},
}
Fields = dict[str, dict[str, str]]


@cache
def kind_fields() -> Fields:
    """The types of each kind's fields, by model and field."""
    return msgspec.json.decode(files("harness.apiserver").joinpath("fields.json").read_bytes(), type=Fields)


def documents(version: str) -> dict[str, dict[str, Any]]:
    """Every OpenAPI document by its path."""
    types = kind_fields()
    info = {"title": "kube-proxy-harness", "version": version}
    roots = sorted({kind.root for kind in KINDS})
    index = {root[1:]: {"serverRelativeURL": f"/openapi/v3{root}"} for root in roots}
    found: dict[str, dict[str, Any]] = {"/openapi/v3": {"paths": index}}
    for root in roots:
        found[f"/openapi/v3{root}"] = _version3([kind for kind in KINDS if kind.root == root], types, info)
    found["/openapi/v2"] = {"swagger": "2.0", "info": info, "paths": {}, "definitions": {}}
    return found


def version2_protobuf(version: str) -> bytes:
    """/openapi/v2 in the only format in which kubectl reads it, before it applies a List."""
    swagger, info, paths, definitions = 1, 2, 8, 9
    title = encoded(1, b"kube-proxy-harness") + encoded(2, version.encode())
    return encoded(swagger, b"2.0") + encoded(info, title) + encoded(paths, b"") + encoded(definitions, b"")


def _version3(kinds: list[Kind], types: Fields, info: dict[str, str]) -> dict[str, Any]:
    paths = {path: methods for kind in kinds for path, methods in _paths(kind)}
    schemas, left = {}, [kind.model for kind in kinds]
    while left:
        if (name := left.pop()) not in schemas:
            schemas[name] = _schema(name, types)
            left += [word for type_ in types[name].values() for word in re.findall(r"\w+", type_) if word in types]
    for kind in kinds:
        schemas[kind.model][GVK] = [_gvk(kind)]
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _schema(name: str, types: Fields) -> dict[str, Any]:
    fields = types[name]
    schema: dict[str, Any] = {"type": "object"}
    if fields:
        schema["properties"] = {field: _field(name, field, type_.lstrip("!"), types) for field, type_ in fields.items()}
    if required := [field for field, type_ in fields.items() if type_.startswith("!")]:
        schema["required"] = required
    return schema


def _field(owner: str, field: str, type_: str, types: Fields) -> dict[str, Any]:
    schema = _type(type_, types)
    if type_.startswith("List["):
        item = types.get(type_[5:-1], {})
        key = next((key for key in MERGE_KEYS.get(field, ()) if key in item), None)
        if key and not owner.startswith("V1Endpoint"):
            schema |= {"x-kubernetes-patch-merge-key": key, "x-kubernetes-patch-strategy": "merge"}
        elif field in MERGED_VALUES:
            schema |= {"x-kubernetes-patch-strategy": "merge"}
    return schema


def _type(type_: str, types: Fields) -> dict[str, Any]:
    if inner := re.fullmatch(r"List\[(.+)\]", type_):
        return {"type": "array", "items": _type(inner[1], types)}
    if inner := re.fullmatch(r"Dict\[string, (.+)\]", type_):
        return {"type": "object", "additionalProperties": _type(inner[1], types)}
    if type_ in types:
        return {"allOf": [{"$ref": f"#/components/schemas/{type_}"}]}
    return SPECIAL.get(type_, {"type": type_})


def _paths(kind: Kind) -> list[tuple[str, dict[str, Any]]]:
    where = f"{kind.root}/namespaces/{{namespace}}" if kind.namespaced else kind.root
    write = {"parameters": QUERY, "responses": {"200": {"description": "OK"}}} | {GVK: _gvk(kind)}
    names = ["namespace", "name"] if kind.namespaced else ["name"]
    inside = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    read = write | {"x-kubernetes-action": "get"}
    return [
        (f"{where}/{kind.resource}", {"parameters": inside[:-1], "get": read, "post": write}),
        (
            f"{where}/{kind.resource}/{{name}}",
            {"parameters": inside, "get": read, "put": write, "patch": write, "delete": write},
        ),
    ]


def _gvk(kind: Kind) -> dict[str, str]:
    return {"group": kind.group, "kind": kind.kind, "version": kind.version}
