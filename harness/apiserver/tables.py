"""Tables: what `kubectl get` prints, made here as the API server makes it. Pure but for the age's clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.serve.columns import COLUMNS, DEFAULT, Column
from harness.serve.kinds import Kind
from harness.serve.manifest import Object


def table(kind: Kind, objects: Iterable[Object], revision: str, include: str, header: bool) -> dict[str, Any]:
    """A meta.k8s.io/v1 Table; rows carry no object, its metadata, or all of it, as `include` says."""
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
    """One cell; manifests may be odd, as recordings keep them as they were."""
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
