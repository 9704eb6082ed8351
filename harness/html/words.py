"""Formats numbers and names for reports. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

LONGEST_TEXT = 400
NOTHING = "–"

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: object, longest: int = LONGEST_TEXT) -> str:
    """The text without characters that are invalid in XML, and truncated to `longest`."""
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


def short(value: float) -> str:
    """A duration with at most three significant digits: `20 µs`, `1.5 ms`, `2 s`, `12,300 s`."""
    if value <= 0:
        return "0 s"
    units = (("s", 1.0), ("ms", 1e3), ("µs", 1e6))
    rounded = ((float(f"{value * factor:.3g}"), unit) for unit, factor in units)
    number, unit = next((each for each in rounded if each[0] >= 1), (value * 1e6, "µs"))
    return f"{number:,.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"


def at_least(value: float | None, more: bool) -> str:
    """Like `seconds`, with `over` if it may have taken longer: `over 1.92 s`."""
    return f"over {seconds(value)}" if more and value is not None else seconds(value)


def clock(value: float) -> str:
    """A time since the start of the run: `6.5 s`, `1:02:03`."""
    if value < 120:
        return f"{value:.1f} s"
    return minutes(value)


def minutes(value: float) -> str:
    """`0:30`, `12:05`, `1:02:03`."""
    whole = int(value)
    hours, of_hour, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{of_hour:02}:{rest:02}" if hours else f"{of_hour}:{rest:02}"


def level(value: float, unit: str = "") -> str:
    """The label of a grid line: `0.5`, `200`, `10k`; for milliseconds `10 ms`, `1 s`."""
    if unit == " ms" and value >= 1000:
        value, unit = value / 1000, " s"
    if value >= 10_000:
        return f"{value / 1000:g}k{unit}"
    return f"{value:,.0f}{unit}" if value >= 10 else f"{value:g}{unit}"


def milliseconds(microseconds: float | None) -> str:
    """Three digits: `9.07 ms`."""
    if microseconds is None:
        return NOTHING
    value = microseconds / 1000
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def percent(part: float, whole: float) -> str:
    """`7.89 %`; a dash if `whole` is 0."""
    return f"{100 * part / whole:.2f} %" if whole else NOTHING


def counts(by_name: Mapping[str, int], nothing: str = NOTHING, most: int = 8) -> str:
    """`timeout 46, refused 19`, in descending order, followed by the number left out."""
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
    """`pods=1, percent=5`; unset values are left out."""
    return ", ".join(f"{name}={_plain(value)}" for name, value in values.items() if value is not None)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({settings(value)})"
    if isinstance(value, list | tuple):
        return " ".join(map(_plain, value))
    return clean(str(value).lower() if isinstance(value, bool) else value, 160)
