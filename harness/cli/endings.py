"""Ends any command that fails for an external reason with one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import click

from harness.cli.verbosity import asked
from harness.exit_codes import EXIT_INPUT, EXIT_INTERRUPTED, EXIT_TERMINATED
from harness.extras import way_out
from harness.failure import Failure

if TYPE_CHECKING:
    from harness.replay.objectives import JudgedObjective
    from harness.replay.result import Objective


def prepare() -> None:
    """Prepare the process: signals and standard streams.

    SIGTERM unwinds the stack, so that files are cleaned up.  Closed streams are opened on /dev/null, as otherwise the
    next opened files would get their descriptors.  Characters that a stream cannot encode are replaced.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))


class Ending(click.ClickException):
    """Ends a command with one line and an exit code, for errors that are not a `Failure`."""

    def __init__(self, message: str, exit_code: int, prefix: str = "error: ") -> None:
        super().__init__(message)
        self._prefix = prefix
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it as a class attribute

    def show(self, file: IO[Any] | None = None) -> None:
        """Report an error as click does, in this project's format."""
        click.echo(f"{self._prefix}{self.message}", file=file or sys.stderr)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Report a missing Python package, a failed file or stream, or an interruption in one line, never a traceback.

    A closed pipe is left to click, which ends silently.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except SystemExit as end:
        if asked().verbose and end.code and end.__context__:
            traceback.print_exception(end.__context__)
        raise
    except Ending as end:
        if asked().verbose and end.__context__:
            traceback.print_exception(end.__context__)
        raise
    except Failure as error:
        if asked().verbose:
            traceback.print_exception(error)
        raise Ending(str(error), error.exit_code) from None
    except KeyboardInterrupt:
        _end("interrupted", EXIT_INTERRUPTED)
    except ModuleNotFoundError as error:
        said = way_out(error.name or "")
        if said is None:
            raise
        _end(f"error: {said}", EXIT_INPUT)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        if asked().verbose:
            traceback.print_exception(error)
        where = f"{error.filename}: " if error.filename else "output: " if error.errno == errno.ENOSPC else ""
        _end(f"error: {where}{error.strerror or error}", EXIT_INPUT)


def _end(line: str, code: int) -> None:
    with contextlib.suppress(OSError):
        click.echo(line, err=True)
    # Unwritten output must not be retried when the interpreter exits.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout = open(os.devnull, "w")
    sys.exit(code)


def complain(found: Sequence[JudgedObjective], asked: bool) -> int:
    """The exit code; objectives that failed or are unknown are printed on standard error."""
    from harness.replay.objectives import exit_code

    code = exit_code(found, asked)
    if code:
        for objective in (each.objective for each in found):
            if objective.verdict is False:
                click.echo(f"gate: {_words(objective)}", err=True)
            elif objective.verdict == "unknown":
                click.echo(f"unknown: {_words(objective)}", err=True)
    return code


def _words(objective: Objective) -> str:
    """The reason with the objective's name; the reasons of gates and digests already contain it."""
    plain = objective.name.startswith("--") or objective.name == "digest"
    return objective.why if plain else f"{objective.name}: {objective.why}"
