"""The three kinds of patch, as pure functions from a manifest and a patch to a new manifest.

JSON Merge Patch (RFC 7386), JSON Patch (RFC 6902), and Kubernetes' strategic merge patch with the merge
keys of the resources served here: lists with a merge key are merged, all others are replaced.
An invalid patch raises ValueError, a JSON Patch that the object does not allow PatchNotApplicable.
"""

from __future__ import annotations

import copy
from typing import Any

import msgspec
from jsonpatch import JsonPatchException, JsonPatchTestFailed, JsonPointer, JsonPointerException, apply_patch

MERGE_KEYS = {
    "addresses": ("type",), "conditions": ("type",), "containers": ("name",), "env": ("name",),
    "ephemeralContainers": ("name",), "hostAliases": ("ip",), "imagePullSecrets": ("name",),
    "initContainers": ("name",), "ownerReferences": ("uid",), "podIPs": ("ip",),
    "ports": ("containerPort", "port"), "topologySpreadConstraints": ("topologyKey",),
    "volumeMounts": ("mountPath",), "volumes": ("name",),
}  # fmt: skip
"""Merge keys by the list's field name; the first one that the elements have is used."""

MERGED_VALUES = frozenset({"finalizers", "podCIDRs"})
"""Lists of scalar values that are merged as sets."""


MAX_COPIED_BYTES = 3 << 20
"""How much JSON the copies of one JSON Patch may add: kube-apiserver's limit."""


class PatchNotApplicable(ValueError):
    """An operation of a JSON Patch failed: a path does not exist, or a `test` found another value."""


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects are merged, everything else is replaced."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def strategic_merge_patch(target: Any, patch: dict[str, Any], atomic: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Strategic merge patch; lists named in `atomic` are always replaced."""
    match patch.get("$patch"):
        case "replace":
            return {name: copy.deepcopy(value) for name, value in patch.items() if name != "$patch"}
        case "delete":
            return {}
        case None | "merge":
            pass
        case unknown:
            raise ValueError(f"$patch is {unknown!r}; replace, merge or delete is needed")
    result = dict(target) if isinstance(target, dict) else {}
    if (kept := patch.get("$retainKeys")) is not None:
        result = {name: value for name, value in result.items() if name in kept}
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            result[field] = [item for item in result.get(field) or [] if item not in value]
        elif name.startswith("$"):
            continue
        elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            result.pop(name, None)
        else:
            result[name] = _merged(name, result.get(name), value, atomic)
    for name, order in patch.items():
        if name.startswith("$setElementOrder/"):
            _reorder(result, name.partition("/")[2], order)
    return result


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902; PatchNotApplicable names the operation that cannot be applied."""
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise ValueError("a JSON Patch is a list of operations")
    document, copied = copy.deepcopy(target), 0
    for operation in operations:
        try:
            if operation.get("op") == "copy":
                copied += len(msgspec.json.encode(JsonPointer(operation["from"]).resolve(document)))
            if copied > MAX_COPIED_BYTES:
                raise PatchNotApplicable(f"its copies add more than {MAX_COPIED_BYTES} bytes")
            document = apply_patch(document, [operation], in_place=True)
        except JsonPatchTestFailed:
            raise PatchNotApplicable(f"testing value {operation['path']} failed") from None
        except (JsonPatchException, JsonPointerException, KeyError, TypeError, RecursionError):
            raise PatchNotApplicable(f"the operation {operation!r} does not apply to the object") from None
    return document


def _merged(name: str, old: Any, new: Any, atomic: frozenset[str]) -> Any:
    if isinstance(new, dict):
        return strategic_merge_patch(old, new, atomic)
    if isinstance(new, list) and name in MERGED_VALUES:
        return [*(old or []), *(item for item in new if item not in (old or []))]
    if isinstance(new, list) and name not in atomic and (key := _merge_key(name, [*(old or []), *new])):
        return _merged_list(old or [], new, key, atomic)
    return copy.deepcopy(new)


def _merge_key(name: str, items: list[Any]) -> str | None:
    """The merge key of these elements; None if the list is replaced."""
    if not all(isinstance(item, dict) for item in items):
        return None
    named = [item for item in items if item.get("$patch") != "replace"]
    return next((key for key in MERGE_KEYS.get(name, ()) if all(key in item for item in named)), None)


def _merged_list(old: list[Any], new: list[Any], key: str, atomic: frozenset[str]) -> list[Any]:
    """Merge each new element into the first old one with the same key, or append it."""
    if any(item.get("$patch") == "replace" for item in new):
        return [copy.deepcopy(item) for item in new if "$patch" not in item]
    result = list(old)
    for item in new:
        place = next((i for i, other in enumerate(result) if other[key] == item[key]), len(result))
        gone = item.get("$patch") == "delete"
        before = result[place] if place < len(result) else None
        result[place : place + 1] = [] if gone else [strategic_merge_patch(before, item, atomic)]
    return result


def _reorder(result: dict[str, Any], field: str, order: list[Any]) -> None:
    """Put elements in the order given by the patch, followed by those that it does not name."""
    items = result.get(field)
    if not isinstance(items, list):
        return
    places = {_identity(field, item): place for place, item in enumerate(order)}
    result[field] = sorted(items, key=lambda item: places.get(_identity(field, item), len(places)))


def _identity(field: str, item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    return next((item[key] for key in MERGE_KEYS.get(field, ()) if key in item), None)
