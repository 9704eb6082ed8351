"""A position in a recording as the value of an option."""

from __future__ import annotations

import click

from harness.log import positions


def position(text: str) -> positions.Position:
    """A bare number is a seq, a number with a unit a time since the start; BadParameter for anything else."""
    try:
        return positions.position(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a seq such as 120 nor a time such as 90s") from None


def position_or_none(text: str | None) -> positions.Position | None:
    """The position given by an option, or None."""
    return None if text is None else position(text)
