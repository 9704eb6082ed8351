"""Tables, as printed by `kubectl get`, rendered like the API server does. Pure except for the clock of ages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.apiserver.columns import COLUMNS, DEFAULT, Column
from harness.apiserver.manifest import Object
from harness.kube.resources import Kind


def table(kind: Kind, objects: Iterable[Object], revision: str, include: str, header: bool) -> dict[str, Any]:
    """A meta.k8s.io/v1 Table; `include` selects whether rows contain no object, its metadata, or all of it."""
    columns = COLUMNS.get(kind.qualified, DEFAULT)
    rows = []
    for found in objects:
        manifest = found.manifest()
        rows.append({"cells": [_cell(column, manifest) for column in columns], **_carried(manifest, include)})
    definitions = [column.definition() for column in columns]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": revision},
        "columnDefinitions": definitions if header else None,
        "rows": rows,
    }


def _cell(column: Column, manifest: dict[str, Any]) -> Any:
    """One cell; manifests may be malformed, as recordings keep them unchanged."""
    try:
        return column.cell(manifest)
    except (AttributeError, KeyError, TypeError, ValueError):
        return "<invalid>"


def _carried(manifest: dict[str, Any], include: str) -> dict[str, Any]:
    if include == "None":
        return {}
    if include == "Object":
        return {"object": manifest}
    head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return {"object": head | {"metadata": manifest["metadata"]}}
