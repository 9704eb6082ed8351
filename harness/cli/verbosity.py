"""`-q` and `-v`, the same for every command."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from typing import TextIO

import click

_KEY = "harness.verbosity"


@dataclass
class Verbosity:
    """How much a command prints; `data` is standard output for machine-readable data, which -q does not suppress."""

    quiet: bool = False
    verbose: bool = False
    data: TextIO | None = None


def with_verbosity(command: click.Command) -> click.Command:
    """Add the two options to the command, or to every command of the group, except those that run another command."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            with_verbosity(each)
    elif not command.ignore_unknown_options and not any("--quiet" in each.opts for each in command.params):
        command.params += [
            click.Option(
                ["-q", "--quiet"], is_flag=True, expose_value=False, is_eager=True, callback=_be_quiet,
                help="No page and no progress: only data that was asked for, errors, and the exit code.",
            ),
            click.Option(
                ["-v", "--verbose"], is_flag=True, expose_value=False, is_eager=True, callback=_be_verbose,
                help="Also every step's time, what libraries log, and where in the code an error arose.",
            ),
        ]  # fmt: skip
    return command


def _be_quiet(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    now = _of(context)
    now.quiet, now.data = True, sys.stdout
    sys.stdout = nothing = open(os.devnull, "w")

    def restore() -> None:
        nothing.close()
        sys.stdout = now.data

    context.call_on_close(restore)


def _be_verbose(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        _of(context).verbose = True
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


def _of(context: click.Context) -> Verbosity:
    found = context.meta.setdefault(_KEY, Verbosity())
    assert isinstance(found, Verbosity)
    return found


def asked() -> Verbosity:
    """The command line's verbosity; the default outside of a command."""
    context = click.get_current_context(silent=True)
    return _of(context) if context else Verbosity()


def say(text: str, err: bool = False) -> None:
    """Print a line of the human-readable output, unless -q is given."""
    if not asked().quiet:
        click.echo(text, err=err)
