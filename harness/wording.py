"""Counts in words, as every message and page writes them. Pure."""

from __future__ import annotations


def plural(count: int, thing: str, things: str | None = None) -> str:
    """`1 event`, `2,000 events`; `things` is an irregular plural."""
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"
