"""Differences between two states of a cluster: objects added, removed and changed, and which fields.

Lists of named elements are compared by name, so that removing an endpoint does not change all those after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from harness.log.state import Key

BOOKKEEPING = frozenset({
    "apiVersion", "kind", "metadata.resourceVersion", "metadata.managedFields", "metadata.generation",
    "metadata.selfLink", "metadata.annotations[endpoints.kubernetes.io/last-change-trigger-time]",
    "metadata.annotations[kubectl.kubernetes.io/last-applied-configuration]",
    "status.conditions[].lastHeartbeatTime", "status.conditions[].observedGeneration",
})  # fmt: skip
"""Fields whose changes are irrelevant; watch events of typed clients omit the first two."""

IDENTITIES = {
    "endpoints": ("addresses",), "ports": ("name", "containerPort", "port"), "conditions": ("type",),
    "addresses": ("type", "address"), "ingress": ("ip", "hostname"), "ownerReferences": ("uid",),
    "containers": ("name",), "containerStatuses": ("name",), "taints": ("key",), "forZones": ("name",),
    "forNodes": ("name",),
}  # fmt: skip
"""Fields that may identify elements, by the list's field: the first one unique on both sides is used."""

_MAPS = frozenset({"labels", "annotations", "selector"})
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class FieldChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """The values of one field; UNSET if absent."""

    path: str
    before: Any = msgspec.UNSET
    after: Any = msgspec.UNSET


class ObjectDifference(msgspec.Struct, frozen=True):
    """One object that was `added`, `removed` or `changed`; `fields` only if changed."""

    change: str
    resource: str
    namespace: str
    name: str
    fields: tuple[FieldChange, ...] = ()


def differences(
    before: Mapping[Key, bytes], after: Mapping[Key, bytes], all_fields: bool = False
) -> Iterator[ObjectDifference]:
    """Changes from one state to another, sorted by resource, namespace and name.

    `all_fields` includes bookkeeping fields, and the order of lists.
    """
    for key in sorted(before.keys() | after.keys()):
        if key not in before:
            yield ObjectDifference("added", *key)
        elif key not in after:
            yield ObjectDifference("removed", *key)
        elif bytes(before[key]) != bytes(after[key]):
            found = tuple(_walk("", "", _decode(before[key]), _decode(after[key]), all_fields))
            if found:
                yield ObjectDifference("changed", *key, found)


def summary(changes: list[ObjectDifference], before: Mapping[Key, bytes]) -> dict[str, dict[str, int]]:
    """The numbers of added, removed, changed and unchanged objects by resource."""
    counts: dict[str, dict[str, int]] = {}
    for resource, *_ in before:
        _row(counts, resource)["same"] += 1
    for change in changes:
        row = _row(counts, change.resource)
        row[change.change] += 1
        row["same"] -= change.change != "added"
    return dict(sorted(counts.items()))


def _row(counts: dict[str, dict[str, int]], resource: str) -> dict[str, int]:
    return counts.setdefault(resource, {"added": 0, "removed": 0, "changed": 0, "same": 0})


def _walk(path: str, general: str, before: Any, after: Any, all_fields: bool) -> Iterator[FieldChange]:
    """Differences below `path`; `general` is the same without the names of elements."""
    if not all_fields and (path in BOOKKEEPING or general in BOOKKEEPING):
        return
    named = _by_name(path, before, after, all_fields)
    if named is None:
        if before != after or type(before) is not type(after):  # true is not 1
            yield FieldChange(path, before, after)
        return
    for step, old, new in named:
        yield from _walk(_join(path, step), _join(general, "[]" if step[0] == "[" else step), old, new, all_fields)


def _by_name(path: str, before: Any, after: Any, all_fields: bool) -> list[tuple[str, Any, Any]] | None:
    """The children of two values, paired by name; None if they are compared as a whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        form = "[{}]" if path.rpartition(".")[2] in _MAPS else "{}"
        return _pairs(before, after, form)
    if isinstance(before, list) and isinstance(after, list):
        field = path.rpartition(".")[2]
        for identity in () if all_fields else IDENTITIES.get(field, ()):
            olds, news = _named(identity, before), _named(identity, after)
            if olds is not None and news is not None:
                return _pairs(olds, news, "[{}]")
        return _pairs(dict(enumerate(before)), dict(enumerate(after)), "[{}]")
    return None


def _pairs(before: Mapping[Any, Any], after: Mapping[Any, Any], form: str) -> list[tuple[str, Any, Any]]:
    unset = msgspec.UNSET
    return [(form.format(name), before.get(name, unset), after.get(name, unset)) for name in {**before, **after}]


def _named(identity: str, items: list[Any]) -> dict[str, Any] | None:
    """Elements by the identifying field; None if it is not unique."""
    if not all(isinstance(item, dict) for item in items):
        return None
    named = {name: item for item in items if (name := _name(item.get(identity))) is not None}
    return named if len(named) == len(items) else None


def _name(value: Any) -> str | None:
    if isinstance(value, list):
        return ",".join(map(str, value)) or None
    return None if value is None else str(value)


def _join(path: str, step: str) -> str:
    return step if not path else path + step if step[0] == "[" else f"{path}.{step}"
