"""The part of a recording between two places."""

from __future__ import annotations

from typing import NamedTuple

from harness.events import Event
from harness.recording.places import place


def position(text: str | None) -> tuple[str, int] | None:
    """A place in a recording, None without one: a bare number is a seq, one with a unit a time since the start."""
    return None if text is None else place(text)


class Window(NamedTuple):
    """Which part to measure: events before `start` are folded, those after `until` left out.

    Each is ("seq", number) or ("t", nanoseconds), or None.
    """

    start: tuple[str, int] | None = None
    until: tuple[str, int] | None = None

    def before(self, event: Event) -> bool:
        """Whether the event comes before the measured part."""
        return self.start is not None and getattr(event, self.start[0]) < self.start[1]

    def after(self, event: Event) -> bool:
        """Whether the event comes after it."""
        return self.until is not None and getattr(event, self.until[0]) > self.until[1]
