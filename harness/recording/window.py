"""Places in a recording, and the part of it between two of them."""

from __future__ import annotations

import re
from typing import NamedTuple

from harness.events import Event

UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}


def duration(text: str) -> int:
    """Nanoseconds of `1s`, `500ms`, `0`; a bare number is seconds. ValueError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)?", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 1s, 500ms or 0")
    return round(float(match[1]) * UNITS[match[2] or "s"])


def position(text: str | None) -> tuple[str, int] | None:
    """A place in a recording: a bare number is a seq, one with a unit a time since the start."""
    if text is None:
        return None
    return ("seq", int(text)) if text.isdigit() else ("t", duration(text))


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
