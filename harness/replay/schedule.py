"""Cuts a recording into batches by its own clock: what each sync carries never depends on the machine.

The initial list is one batch.  After it, an event is due at once unless the last sync was due less
than `min_sync_period` earlier; all events up to that moment share the batch (SYNC-02).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from harness.events import OBJECT_TYPES, Event
from harness.recording.window import Window

REQUIRED_LISTS = frozenset({"services", "endpointslices"})


class Batch(NamedTuple):
    """Events of one sync, due at `due` (ns of the recording); the first batch is the initial state."""

    due: int
    events: list[Event]
    initial: bool


def initial_part(events: Iterator[Event], window: Window) -> tuple[Iterator[Event], list[Event]]:
    """An iterator over the initial list, and a list that holds the first later event once it ends.

    The list ends with the bookmarks that end the lists of Services and EndpointSlices (SYNC-01), or,
    in a recording without them, before the first MODIFIED or DELETED; at the window's start if later.
    """
    rest: list[Event] = []

    def walk() -> Iterator[Event]:
        missing = set(REQUIRED_LISTS)
        for event in events:
            if window.after(event):
                return
            changed = event.type in ("MODIFIED", "DELETED")
            if (changed or not missing) and not window.before(event):
                rest.append(event)
                return
            if event.ends_initial_list:
                missing.discard(event.resource)
            yield event

    return walk(), rest


def batches(first: list[Event], events: Iterable[Event], window: Window, min_sync_period: int) -> Iterator[Batch]:
    """Batches of everything behind the initial list; markers carry no object, but tell that time has passed."""
    pending: list[Event] = []
    due = last_due = None
    for event in _chain(first, events):
        if window.after(event):
            break
        if pending and event.t > due:
            yield Batch(due, pending, False)
            pending, last_due = [], due
        if event.type not in OBJECT_TYPES:
            continue
        if not pending:
            due = event.t if last_due is None else max(event.t, last_due + min_sync_period)
        pending.append(event)
    if pending:
        yield Batch(due, pending, False)


def _chain(first: Iterable[Event], rest: Iterable[Event]) -> Iterator[Event]:
    yield from first
    yield from rest
