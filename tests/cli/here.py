"""The command in this process, where a start of its own would take longer than what is tested."""

from __future__ import annotations

import subprocess

from click.testing import CliRunner

from harness.cli import main


def harness(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What it printed, and its exit code."""
    done = CliRunner().invoke(main, [*map(str, arguments)])
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
