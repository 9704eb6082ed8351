"""What goes wrong outside of the program, as a command reports it: one line and an exit code."""

from __future__ import annotations


class Failure(Exception):
    """Ends a command with its message and `exit_code`, unless the command knows better."""

    exit_code = 1
