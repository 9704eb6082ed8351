"""Divides a recording into batches on its own clock: the contents of a sync never depend on the machine.

The initial list is one batch.  After it, an event is due at once unless the last sync was due less
than `min_sync_period` earlier; all events up to that moment share the batch (SYNC-02).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from harness.log.events import OBJECT_TYPES, Event
from harness.log.window import Window


class Batch(NamedTuple):
    """Events of one sync, due at `due` (ns of the recording); the first batch is the initial state."""

    due: int
    events: list[Event]
    initial: bool


def batches(first: list[Event], events: Iterable[Event], window: Window, min_sync_period: int) -> Iterator[Batch]:
    """Batches of all events after the initial list; markers contain no object, but advance the time."""
    pending: list[Event] = []
    due = 0
    last_due: int | None = None
    for event in _chain(first, events):
        if window.after(event):
            break
        if pending and event.t > due:
            yield Batch(due, pending, initial=False)
            pending, last_due = [], due
        if event.type not in OBJECT_TYPES:
            continue
        if not pending:
            due = event.t if last_due is None else max(event.t, last_due + min_sync_period)
        pending.append(event)
    if pending:
        yield Batch(due, pending, initial=False)


def _chain(first: Iterable[Event], rest: Iterable[Event]) -> Iterator[Event]:
    yield from first
    yield from rest
