"""Warnings about a source that can be used nevertheless."""

from __future__ import annotations

import functools
import sys


@functools.cache
def note(text: str) -> None:
    """Print a warning on standard error, once, even if the source is read several times."""
    print(f"warning: {text}", file=sys.stderr)
