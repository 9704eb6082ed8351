"""A summary of a recording, computed in one pass."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from harness.log.events import Event
from harness.log.source import Recording
from harness.log.state import State, folded


class Summary(msgspec.Struct):
    """A recording's summary; times are in nanoseconds, `rate` in events per second after the initial list.

    `counts` is by resource, then type. `endpoints` are those listed in all slices, ready or not.
    `rate` is None if no time passes. `largest_gap` is between consecutive events.
    """

    path: str
    header: dict[str, Any]
    events: int = 0
    counts: dict[str, dict[str, int]] = {}
    services: dict[str, int] = {}
    endpoints_initial: int = 0
    endpoints_end: int = 0
    duration: int = 0
    rate: float | None = None
    largest_gap: int = 0
    sha256: str = ""


class _Spec(msgspec.Struct, gc=False):
    type: str | None = None
    clusterIP: str | None = None


class _Facts(msgspec.Struct, gc=False):
    """The counted parts of a Service or slice."""

    spec: _Spec | None = None
    endpoints: list[msgspec.Raw] | None = None


_facts = msgspec.json.Decoder(_Facts).decode


def summarize(recording: Recording) -> Summary:
    """Read all of `recording`; RecordingError for invalid contents."""
    summary = Summary(recording.path, msgspec.to_builtins(recording.header))
    state = State()
    counts: Counter[tuple[str, str]] = Counter()
    listed, last = 0, None
    for event in folded(recording, state):
        counts[event.resource, event.type] += 1
        summary.largest_gap = max(summary.largest_gap, event.t - (event.t if last is None else last.t))
        if event.ends_initial_list:
            listed = sum(counts.values())
            summary.endpoints_initial = _endpoints(state)
        last = event
    _finish(summary, counts, listed, last)
    summary.services = _services(state)
    summary.endpoints_end = _endpoints(state)
    summary.sha256 = recording.sha256
    return summary


def _decode(manifest: msgspec.Raw) -> _Facts:
    try:
        return _facts(manifest)
    except msgspec.DecodeError:
        return _Facts()  # `harness validate` reports where and why it is invalid


def _finish(summary: Summary, counts: Counter[tuple[str, str]], listed: int, last: Event | None) -> None:
    """Totals after the last event; `listed` is the number of events in the initial list."""
    summary.events = sum(counts.values())
    summary.duration = last.t if last else 0
    if summary.duration:
        summary.rate = (summary.events - listed) / (summary.duration / 1e9)
    tree: dict[str, dict[str, int]] = {}
    for (resource, kind), count in sorted(counts.items()):
        tree.setdefault(resource, {})[kind] = count
    summary.counts = tree


def _services(state: State) -> dict[str, int]:
    """Number of Services at the end by type, with headless ones counted separately."""
    found = Counter(
        _service_type(_decode(raw).spec or _Spec())
        for (resource, *_), raw in state.objects.items()
        if resource == "services"
    )
    return dict(sorted(found.items()))


def _service_type(spec: _Spec) -> str:
    kind = spec.type or "ClusterIP"
    return "ClusterIP (headless)" if kind == "ClusterIP" and spec.clusterIP == "None" else kind


def _endpoints(state: State) -> int:
    return sum(
        len(_decode(raw).endpoints or ())
        for (resource, *_), raw in state.objects.items()
        if resource == "endpointslices"
    )
