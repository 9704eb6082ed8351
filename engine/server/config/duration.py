"""Go's durations, such as "1h30m" in Kubernetes' files and flags: parsing and formatting."""

from __future__ import annotations

import json
import re

SECOND = 10**9
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")
_LIMIT = 2**63


class Duration(int):
    """A duration in nanoseconds; `str` gives Go's format."""

    __slots__ = ()

    @classmethod
    def of(cls, seconds: int) -> Duration:
        """A duration of whole seconds."""
        return cls(seconds * SECOND)

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Parse like Go's time.ParseDuration, e.g. "1h15m30.5s"; ValueError with Go's message."""
        rest = text[1:] if text[:1] in ("+", "-") else text
        if rest == "0":
            return cls(0)
        total, position = 0, 0
        while position < len(rest):
            part = _PART.match(rest, position)
            assert part, "it matches the empty string too"
            whole, fraction, unit = part[1], part[2] or "", part[3]
            if not whole and not fraction:
                raise ValueError(f"time: invalid duration {_quoted(text)}")
            if unit not in _UNITS:
                wrong = f"unknown unit {_quoted(unit)}" if unit else "missing unit"
                raise ValueError(f"time: {wrong} in duration {_quoted(text)}")
            total += int(whole or 0) * _UNITS[unit] + int(fraction or 0) * _UNITS[unit] // 10 ** len(fraction)
            position = part.end()
        if not rest or total > _LIMIT - (text[0] != "-"):
            raise ValueError(f"time: invalid duration {_quoted(text)}")
        return cls(-total if text[0] == "-" else total)

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self / SECOND

    def __str__(self) -> str:
        size = abs(self)
        sign = "-" if self < 0 else ""
        if size == 0:
            return "0s"
        if size < SECOND:
            unit, scale = next((u, s) for u, s in (("ms", 10**6), ("µs", 10**3), ("ns", 1)) if size >= s)
            return f"{sign}{_decimal(size, scale)}{unit}"
        minutes, rest = divmod(size, 60 * SECOND)
        hours, minutes = divmod(minutes, 60)
        lead = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
        return f"{sign}{lead}{_decimal(rest, SECOND)}s"

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"


def _decimal(value: int, scale: int) -> str:
    """value / scale, exact, without trailing zeros."""
    whole, fraction = divmod(value, scale)
    digits = f"{fraction:0{len(str(scale)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
