"""The state of the cluster after some events: the existing manifests, by identity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from harness.kube.resources import BY_NAME
from harness.log.events import OBJECT_TYPES, Event
from harness.log.positions import Position
from harness.log.source import Recording
from harness.log.window import Window

Key = tuple[str, str, str]
"""Resource, namespace ("" for nodes), name."""


class _Metadata(msgspec.Struct, gc=False):
    name: str = ""
    namespace: str | None = None


class _Named(msgspec.Struct, gc=False):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


_decode_named = msgspec.json.Decoder(_Named).decode


def key_of(event: Event) -> Key:
    """Identity of the event's object; ValueError if its metadata is incomplete."""
    try:
        metadata = _decode_named(event.object).metadata
    except msgspec.DecodeError as error:
        raise ValueError(f"not a manifest of its kind: {error}") from None
    if not metadata.name:
        raise ValueError("object has no metadata.name")
    return event.resource, metadata.namespace or "", metadata.name


class State:
    """The objects that exist after the applied events: `objects` is manifest JSON by Key."""

    def __init__(self) -> None:
        self.objects: dict[Key, msgspec.Raw] = {}

    def apply(self, event: Event) -> None:
        """Apply one event; markers change nothing, as the changes that they announce follow as events."""
        if event.type not in OBJECT_TYPES:
            return
        if event.type == "DELETED":
            self.objects.pop(key_of(event), None)
        else:
            self.objects[key_of(event)] = event.object

    def listing(self) -> dict[str, Any]:
        """The objects as a Kubernetes v1 List, sorted by kind, namespace and name."""
        order = sorted(self.objects, key=lambda key: (BY_NAME[key[0]].kind, *key[1:]))
        items = [_complete(key[0], self.objects[key]) for key in order]
        return {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}


def folded(recording: Recording, state: State, until: Position | None = None) -> Iterator[Event]:
    """The events of `recording`, each yielded after it is applied to `state`; RecordingError for invalid objects."""
    window = Window(until=until)
    for event in recording:
        if window.after(event):
            return
        _take(recording, state, event)
        yield event


def _take(recording: Recording, state: State, event: Event) -> None:
    try:
        state.apply(event)
    except ValueError as error:
        raise recording.error(event, f"{event.type} {event.resource}: {error}") from None


def state_at(recording: Recording, place: Position) -> State:
    """State after the event with the given seq, or at the given time; LookupError, with a message, if there is none.

    Reads at most one event beyond it.
    """
    state, last = State(), None
    for event in folded(recording, state, place):
        last = event.seq
        if place == ("seq", last):
            return state
    require(place, last)
    return state


def two_states(
    recording: Recording, start: Position | None, until: Position | None
) -> tuple[dict[Key, msgspec.Raw], dict[Key, msgspec.Raw]]:
    """Objects at `start` (None: after the initial list) and at `until` (None: the end).

    LookupError, with a message, if there is no such event.
    """
    state, last = State(), None
    before: dict[Key, msgspec.Raw] | None = None
    first, second = Window(until=start), Window(until=until)
    for event in recording:
        if second.after(event):
            break
        if before is None and first.after(event):
            require(start, last)
            before = dict(state.objects)
        _take(recording, state, event)
        last = event.seq
        if start is None and event.ends_initial_list:
            before = dict(state.objects)
    if before is None and start is not None:
        require(start, last)
        before = state.objects
    require(until, last)
    return before or {}, state.objects


def require(place: Position | None, last: int | None) -> None:
    """LookupError if `place` is a seq other than `last`, the one reached."""
    if place is not None and place[0] == "seq" and place[1] != last:
        where = "the recording has no events" if last is None else f"the last one before it is {last}"
        raise LookupError(f"no event has seq {place[1]}; {where}")


def _complete(resource: str, manifest: msgspec.Raw) -> dict[str, Any]:
    """The manifest with apiVersion and kind, which watch events of typed clients omit."""
    fields = msgspec.json.decode(manifest, type=dict[str, Any])
    head = {name: fields.pop(name, None) or usual for name, usual in BY_NAME[resource].head.items()}
    return head | fields
