"""A recording decoded once for all nodes: typed values instead of JSON, small enough to be sent to workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.config import NEWEST
from engine.manifest import ManifestError
from engine.model import EndpointSlice, Name, Node
from engine.tracking import NODES, Observed, decode
from harness.log import Recording, RecordingError, open_source
from harness.log.events import OBJECT_TYPES, Event, JsonObject
from harness.log.initial import initial_part
from harness.log.window import WHOLE, Window
from harness.replay.effects import service_of
from harness.replay.session import narrowed


@dataclass(frozen=True)
class TapeChange:
    """One event after the initial list: `event` without its manifest, which had `bytes` bytes.

    `origin` is the recorded seq, `service` the Service that it belongs to; a marker has nothing `observed`.
    """

    event: Event
    origin: int
    observed: Observed | None
    service: Name | None
    bytes: int


@dataclass(frozen=True)
class Tape:
    """A decoded recording; `nodes` are the Nodes of its initial list by name, `late` those that were added later."""

    source: str
    sha256: str
    cluster: JsonObject
    initial: tuple[Observed, ...]
    changes: tuple[TapeChange, ...]
    nodes: dict[str, Node | None]
    events: int
    late: tuple[str, ...] = ()
    leaving: frozenset[str] = field(default_factory=frozenset)
    """Nodes whose own Node object changes after the initial list."""


def read_tape(source: str, window: Window = WHOLE, version: tuple[int, int] = NEWEST) -> Tape:
    """Read and decode a whole source; RecordingError for bad input."""
    with open_source(source) as recording:
        window = narrowed(window, recording.take_window())
        awaited = frozenset({NODES}).intersection(recording.header.resources)
        events = iter(recording)
        walk, rest = initial_part(events, window, awaited)
        initial, count = [], 0
        for event in walk:
            count += 1
            if (seen := _decoded(recording, event, version)) is not None:
                initial.append(seen)
        changes = tuple(_changes(recording, rest, events, window, version))
        return _tape(recording, source, tuple(initial), changes, count + len(changes))


def _changes(
    recording: Recording, first: list[Event], events: Iterator[Event], window: Window, version: tuple[int, int]
) -> Iterator[TapeChange]:
    for part in (first, events):
        for event in part:
            if window.after(event):
                for _ in events:
                    pass  # the checksum covers the rest of a recording beyond the window
                return
            bare = Event(event.seq, event.t, event.type, event.resource)
            seen = _decoded(recording, event, version)
            yield TapeChange(bare, event.seq, seen, service_of(event) if seen else None, len(memoryview(event.object)))


def _decoded(recording: Recording, event: Event, version: tuple[int, int]) -> Observed | None:
    if event.type not in OBJECT_TYPES:
        return None
    try:
        return decode(event.type, event.resource, event.object, version)
    except ManifestError as error:
        raise recording.error(event, f"{event.type} {event.resource}: {error}") from error


def _tape(
    recording: Recording, source: str, initial: tuple[Observed, ...], changes: tuple[TapeChange, ...], events: int
) -> Tape:
    nodes: dict[str, Node | None] = {}
    for seen in initial:
        if isinstance(seen.value, Node):
            nodes[seen.name.name] = seen.value
        elif seen.resource == NODES:
            nodes.pop(seen.name.name, None)
    later = [change.observed for change in changes if change.observed and change.observed.resource == NODES]
    late = dict.fromkeys(seen.name.name for seen in later if seen.name.name not in nodes)
    moved = frozenset(seen.name.name for seen in later if seen.value != nodes.get(seen.name.name))
    if not nodes:
        nodes = dict.fromkeys(_named_by_endpoints(initial))
        late, moved = {}, frozenset()
    if not nodes:
        raise RecordingError(source, None, "no Node in its initial list, and no endpoint names one: there is no view")
    return Tape(
        source, recording.sha256, recording.header.cluster, initial, changes, nodes, events, tuple(late),
        moved & nodes.keys(),
    )  # fmt: skip


def _named_by_endpoints(initial: tuple[Observed, ...]) -> list[str]:
    slices = (seen.value for seen in initial if isinstance(seen.value, EndpointSlice))
    return sorted({endpoint.node for piece in slices for endpoint in piece.endpoints if endpoint.node})
