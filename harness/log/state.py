"""What the cluster looks like after some events: the manifests that exist, by identity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from harness.events import OBJECT_TYPES, Event
from harness.recording.reader import Recording

Key = tuple[str, str, str]
"""Resource, namespace ("" for nodes), name."""

API = {
    "services": ("v1", "Service"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "nodes": ("v1", "Node"),
    "pods": ("v1", "Pod"),
}


class _Metadata(msgspec.Struct, gc=False):
    name: str = ""
    namespace: str | None = None


class _Named(msgspec.Struct, gc=False):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


_decode_named = msgspec.json.Decoder(_Named).decode


def key_of(event: Event) -> Key:
    """Identity of the event's object; ValueError when its metadata does not say."""
    try:
        metadata = _decode_named(event.object).metadata
    except msgspec.DecodeError as error:
        raise ValueError(f"not a manifest of its kind: {error}") from None
    if not metadata.name:
        raise ValueError("object has no metadata.name")
    return event.resource, metadata.namespace or "", metadata.name


class State:
    """Objects that exist after the events `apply` was given, as `objects`: manifest JSON by Key."""

    def __init__(self) -> None:
        self.objects: dict[Key, msgspec.Raw] = {}

    def apply(self, event: Event) -> None:
        """Take one event in; markers change nothing, as what they announce follows as events."""
        if event.type not in OBJECT_TYPES:
            return
        if event.type == "DELETED":
            self.objects.pop(key_of(event), None)
        else:
            self.objects[key_of(event)] = event.object

    def listing(self) -> dict[str, Any]:
        """The objects as a Kubernetes v1 List, sorted by kind, namespace and name."""
        order = sorted(self.objects, key=lambda key: (API[key[0]][1], *key[1:]))
        items = [_complete(key[0], self.objects[key]) for key in order]
        return {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}


def folded(recording: Recording, state: State, until: int | None = None) -> Iterator[Event]:
    """The events of `recording` up to that seq, each given once `state` has it; RecordingError for odd objects."""
    for event in recording:
        if until is not None and event.seq > until:
            return
        try:
            state.apply(event)
        except ValueError as error:
            raise recording.error(event, f"{event.type} {event.resource}: {error}") from None
        yield event


def state_at(recording: Recording, seq: int) -> State:
    """State right after the event numbered `seq`; LookupError, in words, when there is none.

    Reads no further than that event.
    """
    state, last = State(), None
    for event in folded(recording, state, until=seq):
        last = event.seq
        if last == seq:
            return state
    raise _no_event(seq, last)


def two_states(
    recording: Recording, start: int | None, until: int | None
) -> tuple[dict[Key, msgspec.Raw], dict[Key, msgspec.Raw]]:
    """Objects after the events numbered `start` (None: the initial list) and `until` (None: the end).

    LookupError, in words, when there is no such event.
    """
    state, before, last = State(), None, None
    listing = start is None
    for event in folded(recording, state, until):
        last = event.seq
        if last == start or (listing and event.ends_initial_list):
            before = dict(state.objects)
    for wanted, found in ((start, before is not None), (until, last == until)):
        if wanted is not None and not found:
            raise _no_event(wanted, last)
    return before or {}, state.objects


def _no_event(seq: int, last: int | None) -> LookupError:
    where = "the recording has no events" if last is None else f"the last one before it is {last}"
    return LookupError(f"no event has seq {seq}; {where}")


def _complete(resource: str, manifest: msgspec.Raw) -> dict[str, Any]:
    """The manifest with apiVersion and kind, which watch events of typed clients leave out."""
    version, kind = API[resource]
    fields = msgspec.json.decode(manifest, type=dict[str, Any])
    head = {"apiVersion": fields.pop("apiVersion", None) or version, "kind": fields.pop("kind", None) or kind}
    return head | fields
