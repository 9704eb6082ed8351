"""As much OpenAPI as clients look into: which resources there are, and that writes take fieldValidation.

The schemas are left open: what a manifest must look like is for the real API to say.
"""

from __future__ import annotations

from typing import Any

from harness.serve.kinds import KINDS, Kind

GVK = "x-kubernetes-group-version-kind"
INFO = {"title": "kube-proxy-harness", "version": "v1.34.0"}
QUERY = [
    {"name": name, "in": "query", "schema": {"type": "string"}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]


def documents() -> dict[str, dict[str, Any]]:
    """Every OpenAPI document by its path."""
    roots = sorted({kind.root for kind in KINDS})
    index = {root[1:]: {"serverRelativeURL": f"/openapi/v3{root}"} for root in roots}
    found: dict[str, dict[str, Any]] = {"/openapi/v3": {"paths": index}}
    for root in roots:
        found[f"/openapi/v3{root}"] = _version3([kind for kind in KINDS if kind.root == root])
    found["/openapi/v2"] = {"swagger": "2.0", "info": INFO, "paths": {}, "definitions": {}}
    return found


def _version3(kinds: list[Kind]) -> dict[str, Any]:
    paths = {path: methods for kind in kinds for path, methods in _paths(kind)}
    schemas = {_schema(kind): {"type": "object"} | {GVK: [_gvk(kind)]} for kind in kinds}
    return {"openapi": "3.0.0", "info": INFO, "paths": paths, "components": {"schemas": schemas}}


def _paths(kind: Kind) -> list[tuple[str, dict[str, Any]]]:
    where = f"{kind.root}/namespaces/{{namespace}}" if kind.namespaced else kind.root
    write = {"parameters": QUERY, "responses": {"200": {"description": "OK"}}} | {GVK: _gvk(kind)}
    names = ["namespace", "name"] if kind.namespaced else ["name"]
    inside = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return [
        (f"{where}/{kind.resource}", {"parameters": inside[:-1], "post": write}),
        (f"{where}/{kind.resource}/{{name}}", {"parameters": inside, "put": write, "patch": write, "delete": write}),
    ]


def _gvk(kind: Kind) -> dict[str, str]:
    return {"group": kind.group, "kind": kind.kind, "version": kind.version}


def _schema(kind: Kind) -> str:
    return f"{kind.group or 'core'}.{kind.version}.{kind.kind}"
