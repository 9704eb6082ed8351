"""Errors that are no defects of the program: a command reports them as one line and an exit code."""

from __future__ import annotations

from harness.exit_codes import EXIT_FAILED


class Failure(Exception):
    """Ends a command with its message and `exit_code`, unless the command handles it."""

    exit_code = EXIT_FAILED
