"""The part of a recording between two positions."""

from __future__ import annotations

from typing import NamedTuple

from harness.log.events import Event
from harness.log.positions import Position


class Window(NamedTuple):
    """The part to measure: events before `start` are applied but not measured, those after `until` are left out."""

    start: Position | None = None
    until: Position | None = None

    def before(self, event: Event) -> bool:
        """Whether the event comes before the measured part."""
        return self.start is not None and getattr(event, self.start[0]) < self.start[1]

    def after(self, event: Event) -> bool:
        """Whether the event comes after it."""
        return self.until is not None and getattr(event, self.until[0]) > self.until[1]


WHOLE = Window()
"""The whole recording."""
