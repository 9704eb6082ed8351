"""Parses durations, positions in a recording, and speeds in options and requests. Pure."""

from __future__ import annotations

import re

UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}


def duration(text: str) -> int:
    """Nanoseconds for `1s`, `500ms`, `0`; a bare number is seconds. ValueError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)?", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 1s, 500ms or 0")
    return round(float(match[1]) * UNITS[match[2] or "s"])


Position = tuple[str, int]
"""("seq", number) or ("t", nanoseconds since the start)."""


def position(text: str) -> Position:
    """A position in a recording: a bare number is a seq, a number with a unit a time since the start."""
    return ("seq", int(text)) if text.isascii() and text.isdigit() else ("t", duration(text))


def words(where: Position) -> str:
    """A position in the notation of options."""
    return str(where[1]) if where[0] == "seq" else f"{where[1] / UNITS['s']:g}s"


def speed(text: str) -> float | None:
    """None for `max`, else a factor above 0. ValueError otherwise."""
    if text == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise ValueError(f"{text!r} is neither max nor a factor above 0")
    return factor
