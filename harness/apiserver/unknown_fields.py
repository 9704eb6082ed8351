"""Fields of a manifest that its kind does not have, and what the client wants done about them (fieldValidation).

Source: the API reference on field validation, https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from harness.apiserver import errors
from harness.apiserver.openapi import kind_fields
from harness.kube.resources import Kind

IGNORE, WARN, STRICT = "Ignore", "Warn", "Strict"
_DIRECTIVES = (IGNORE, WARN, STRICT)
_MOST = 50
"""How many are reported: each may become a header, and clients accept about a hundred."""


def directive(values: Sequence[str]) -> str:
    """The last of a request's fieldValidation parameters, or the API's default; StatusError 400 for an unknown one."""
    found = values[-1] if values else ""
    if found and found not in _DIRECTIVES:
        supported = ", ".join(f'"{each}"' for each in _DIRECTIVES)
        raise errors.bad_request(f"fieldValidation: Unsupported value: {found!r}: supported values: {supported}")
    return found or WARN


def unknown_fields(kind: Kind, manifest: Any) -> list[str]:
    """Messages such as `unknown field "spec.ports[0].prot"`, in the order of the manifest, 50 at most."""
    return [f'unknown field "{path}"' for path in islice(_unknown(manifest, kind.model, ""), _MOST)]


def _unknown(value: Any, type_: str, path: str) -> Iterator[str]:
    """Values of a wrong type are left to validation."""
    if type_.startswith("List[") and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, type_[5:-1], f"{path}[{index}]")
    elif (fields := kind_fields().get(type_)) and isinstance(value, dict):
        for name, item in value.items():
            below = f"{path}.{name}" if path else name
            if name in fields:
                yield from _unknown(item, fields[name].lstrip("!"), below)
            else:
                yield below
