"""Options that several commands share, with the types of their values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.log import positions

if TYPE_CHECKING:
    from engine.model import Network

VERIFY = ("full", "readback", "packets", "none")
LIMITS = ("max_p99", "max_work_p99", "max_gap", "max_initial")


def duration(text: str) -> int:
    """Nanoseconds for `1s`, `500ms`, `0`; a bare number is seconds. BadParameter otherwise."""
    try:
        return positions.duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


Command = TypeVar("Command", bound=Callable[..., Any])


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """A limit: a number of seconds, 0 or more."""

    name = "seconds"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Extends click: BadParameter unless the value is a finite number, 0 or more."""
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if not 0 <= found < math.inf:
            self.fail(f"{value!r} is not a number of seconds such as 1.5", param, ctx)
        return found


def gates(command: Command) -> Command:
    """Decorator that adds the options that limit a replay's figures."""
    for option in (
        click.option(
            "--max-initial", type=Seconds(), help="Gate: exit 4 if initial convergence exceeds these seconds."
        ),
        click.option(
            "--max-gap",
            type=Seconds(),
            help="Gate: exit 4 if, during a sync, an unchanged destination was unreachable for longer than this.",
        ),
        click.option(
            "--max-work-p99",
            type=Seconds(),
            help="Gate: exit 4 if the p99 of compute and apply, without waiting time, exceeds these seconds.",
        ),
        click.option(
            "--max-p99",
            type=Seconds(),
            help="Gate: exit 4 if the p99 of convergence of a change exceeds these seconds.",
        ),
    ):
        command = option(command)
    return command


def verifying(command: Command) -> Command:
    """Decorator that adds the options that select how kernel state is verified."""
    command = click.option("--no-verify", "verify", flag_value="none", help="The same as --verify none.")(command)
    return click.option(
        "--verify",
        type=click.Choice(VERIFY),
        is_flag=False,
        flag_value="full",
        default="full",
        show_default=True,
        help="How to verify kernel state against the oracle: read it back, send real packets, or both (full).",
    )(command)


def networks(texts: str | None) -> tuple[Network, ...] | None:
    """Pod CIDRs from the option's value, None if it was not given; BadParameter if invalid."""
    from engine.addresses import parse_network

    try:
        return tuple(parse_network(text) for text in texts.split(",")) if texts else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--cluster-cidr") from None
