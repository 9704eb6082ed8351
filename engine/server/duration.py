"""Go's durations: how Kubernetes writes "1h30m" in files and flags, and prints it back."""

from __future__ import annotations

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
_PART = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LIMIT = 2**63


class Duration(int):
    """A span of time in nanoseconds; `str` gives Go's text of it."""

    __slots__ = ()

    @classmethod
    def of(cls, seconds: int) -> Duration:
        """So many whole seconds."""
        return cls(seconds * SECOND)

    @classmethod
    def parse(cls, text: str) -> Duration:
        """What Go's time.ParseDuration reads, such as "1h15m30.5s"; ValueError in its words otherwise."""
        rest = text[1:] if text[:1] in ("+", "-") else text
        if rest == "0":
            return cls(0)
        total, position = 0, 0
        while rest and position < len(rest):
            part = _PART.match(rest, position)
            if part is None or not (part[1] or part[2]):
                raise ValueError(_complaint(text, rest[position:]))
            unit = _UNITS[part[3]]
            total += int(part[1] or 0) * unit + int(part[2] or 0) * unit // 10 ** len(part[2] or "")
            position = part.end()
        if not rest or total > _LIMIT - (text[0] != "-"):
            raise ValueError(f'time: invalid duration "{text}"')
        return cls(-total if text[0] == "-" else total)

    @property
    def seconds(self) -> float:
        """The same span in seconds."""
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
    """value / scale, exact, without needless zeros."""
    whole, fraction = divmod(value, scale)
    digits = f"{fraction:0{len(str(scale)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _complaint(text: str, rest: str) -> str:
    number = re.match(r"\d+\.?\d*|\.\d+", rest)
    if number is None:
        return f'time: invalid duration "{text}"'
    unit = re.match(r"[^\d.]*", rest[number.end() :])[0]
    return f'time: unknown unit "{unit}" in duration "{text}"' if unit else f'time: missing unit in duration "{text}"'
