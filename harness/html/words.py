"""Numbers and names as a report writes them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

LONGEST_TEXT = 400
NOTHING = "–"

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: object, longest: int = LONGEST_TEXT) -> str:
    """Without the characters that XML cannot hold, and cut to a bounded length."""
    words = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text))
    return words if len(words) <= longest else words[: longest - 1] + "…"


def seconds(value: float | None, nothing: str = NOTHING) -> str:
    """`44 ms`, `2.31 s`, `12 min 5 s`."""
    if value is None:
        return nothing
    if abs(value) < 1:
        return f"{value * 1000:.0f} ms"
    if abs(value) < 120:
        return f"{value:.2f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def at_least(value: float | None, more: bool) -> str:
    """As `seconds`, of something that may have taken longer: `over 1.92 s`."""
    return f"over {seconds(value)}" if more and value is not None else seconds(value)


def clock(value: float) -> str:
    """A time of the run: `6.5 s`, `1:02:03`."""
    if value < 120:
        return f"{value:.1f} s"
    whole = int(value)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def level(value: float, unit: str = "") -> str:
    """A grid line's: `0.5`, `200`, `10k`; of milliseconds `10 ms`, `1 s`."""
    if unit == " ms" and value >= 1000:
        value, unit = value / 1000, " s"
    if value >= 10_000:
        return f"{value / 1000:g}k{unit}"
    return f"{value:,.0f}{unit}" if value >= 10 else f"{value:g}{unit}"


def milliseconds(microseconds: float | None) -> str:
    """`9.07 ms`, three digits."""
    if microseconds is None:
        return NOTHING
    value = microseconds / 1000
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def percent(part: float, whole: float) -> str:
    """`7.89 %`; of nothing it is nothing."""
    return f"{100 * part / whole:.2f} %" if whole else NOTHING


def counts(by_name: Mapping[str, int], nothing: str = NOTHING, most: int = 8) -> str:
    """`timeout 46, refused 19`, most first, ended by how many more there are."""
    ordered = sorted(by_name.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{clean(name, 60)} {count:,}" for name, count in ordered[:most]]
    return ", ".join([*shown, *([f"{len(ordered) - most} more"] if len(ordered) > most else [])]) or nothing


def names(all_of_them: Iterable[str], nothing: str = "the cluster", most: int = 6) -> str:
    """`web-1, web-2 and 7 more`."""
    known = [clean(name, 60) for name in all_of_them]
    if len(known) <= most:
        return ", ".join(known) or nothing
    return f"{', '.join(known[: most - 1])} and {len(known) - most + 1} more"


def settings(values: Mapping[str, Any]) -> str:
    """`pods=1, percent=5`; what is not set is left out."""
    return ", ".join(f"{name}={_plain(value)}" for name, value in values.items() if value is not None)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({settings(value)})"
    if isinstance(value, list | tuple):
        return " ".join(map(_plain, value))
    return clean(str(value).lower() if isinstance(value, bool) else value, 160)
