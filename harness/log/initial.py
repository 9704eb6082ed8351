"""The initial list of a recording: the state when recording began, or where the measured part begins."""

from __future__ import annotations

from collections.abc import Iterator

from harness.log.events import Event
from harness.log.window import Window

REQUIRED_LISTS = frozenset({"services", "endpointslices"})


def initial_part(
    events: Iterator[Event], window: Window, awaited: frozenset[str] = frozenset()
) -> tuple[Iterator[Event], list[Event]]:
    """An iterator over the initial list, and a list that contains the first later event once it ends.

    The initial list ends with the bookmarks after the lists of Services and EndpointSlices (SYNC-01) and the other
    `awaited` resources; without bookmarks, before the first change: MODIFIED, DELETED, or, once those two lists have
    ended, an object added to a finished list; or at the window's start, if that is later.
    """
    rest: list[Event] = []

    def walk() -> Iterator[Event]:
        missing = REQUIRED_LISTS | awaited
        ended: set[str] = set()
        for event in events:
            if window.after(event):
                return
            added_later = event.type == "ADDED" and event.resource in ended and ended >= REQUIRED_LISTS
            changed = event.type in ("MODIFIED", "DELETED") or added_later
            if (changed or missing <= ended) and not window.before(event):
                rest.append(event)
                return
            if event.ends_initial_list:
                ended.add(event.resource)
            yield event

    return walk(), rest
