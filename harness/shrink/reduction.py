"""Removes parts of a recording, from coarse to fine: Services, objects, events, fields.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from harness.kube.resources import SERVICE_NAME
from harness.log.events import OBJECT_TYPES, Event
from harness.log.state import Key, key_of
from harness.shrink.ddmin import ddmin

Holds = Callable[[Sequence[Event]], bool]
Path = tuple[str | int, ...]
"""The keys and indices of a value inside a manifest."""


def reduced(
    events: Sequence[Event],
    holds: Holds,
    step: Callable[[str, int], None],
    removable: Callable[[Path], bool] = lambda path: True,
) -> list[Event]:
    """A minimal part of `events` for which `holds` is true; of manifests only `removable` fields are left out.

    `step` is called with the kind of parts to be removed next, and their number.  Rounds are repeated until one changes
    nothing: with fewer fields, an event may become superfluous.
    """
    now = list(events)
    while True:
        before = now
        for what, group in (("Services", _service_of), ("objects", _object_of)):
            now = _by_group(now, group, what, holds, step)
        step("events", len(now))
        now = ddmin(now, holds)
        now = _fields(now, holds, step, removable)
        if now == before:
            return now


def _by_group(
    events: list[Event],
    group: Callable[[Event], tuple[str, ...] | None],
    what: str,
    holds: Holds,
    step: Callable[[str, int], None],
) -> list[Event]:
    """Removes all events of some groups; events without a group stay."""
    names = sorted({name for event in events if (name := group(event)) is not None})
    step(what, len(names))

    def those(kept: Iterable[tuple[str, ...]]) -> list[Event]:
        chosen = set(kept)
        return [event for event in events if (name := group(event)) is None or name in chosen]

    return those(ddmin(names, lambda kept: holds(those(kept))))


def _object_of(event: Event) -> Key | None:
    if event.type not in OBJECT_TYPES:
        return None
    try:
        return key_of(event)
    except ValueError:
        return None  # it may be the cause of the failure: removed or kept as a whole event


def _service_of(event: Event) -> tuple[str, str] | None:
    """Namespace and name of the Service that an event belongs to; None for nodes, pods and markers."""
    key = _object_of(event)
    if key is None or key[0] not in ("services", "endpointslices"):
        return None
    if key[0] == "services":
        return key[1:]
    labels = (_decoded(event).get("metadata") or {}).get("labels") or {}
    return (key[1], str(labels[SERVICE_NAME])) if SERVICE_NAME in labels else None


def _fields(
    events: list[Event], holds: Holds, step: Callable[[str, int], None], removable: Callable[[Path], bool]
) -> list[Event]:
    """Removes fields and list elements in one manifest after another, outer ones first."""
    now = list(events)
    for at, event in enumerate(events):
        if event.type not in OBJECT_TYPES:
            continue
        step("fields", len(events))
        for path in filter(removable, list(_paths(_decoded(event)))):
            manifest = _decoded(now[at])
            if not _remove(manifest, path):
                continue
            smaller = [*now]
            smaller[at] = msgspec.structs.replace(event, object=msgspec.Raw(msgspec.json.encode(manifest)))
            if holds(smaller):
                now = smaller
    return now


def _decoded(event: Event) -> dict[str, Any]:
    found = msgspec.json.decode(event.object)
    return found if isinstance(found, dict) else {}


def _paths(value: Any, above: Path = ()) -> Iterator[Path]:
    """Every field and element, outer ones first, list elements in reverse order so that the other paths stay valid."""
    inner: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = reversed(list(enumerate(value)))
    for step, each in inner:
        yield (*above, step)
        yield from _paths(each, (*above, step))


def _remove(manifest: dict[str, Any], path: Path) -> bool:
    """Remove the value at `path`; returns whether there was one."""
    *way, last = path
    value: Any = manifest
    try:
        for step in way:
            value = value[step]
        del value[last]
    except (KeyError, IndexError, TypeError):
        return False
    return True
