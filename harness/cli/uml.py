"""Commands that need a kernel with IP_VS run again, as they were typed, inside user-mode Linux."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import click

EXIT_KERNEL = 1


def run_in_uml_if_needed(kind: str, mode: str, source: str, outputs: Iterable[str | None]) -> None:
    """Does not return when the whole command ran in there; `outputs` are files that it writes."""
    from harness import uml
    from harness.replay.kernels import KernelUnavailable, needs_uml

    try:
        if not needs_uml(kind, mode):
            return
    except KernelUnavailable as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_KERNEL)
    folders = {os.path.dirname(os.path.abspath(path)) for path in outputs if path and path != "-"}
    command = [sys.executable, "-m", "harness", *sys.argv[1:], "--kernel", "uml"]
    stdin = sys.stdin.buffer.read() if source == "-" else b""
    try:
        code = uml.run(command, writable=sorted(folders), stdin=stdin)
    except uml.UmlError as error:
        click.echo(f"error: {error}", err=True)
        code = EXIT_KERNEL
    except KeyboardInterrupt:
        click.echo("interrupted; nothing is left behind", err=True)
        code = 130
    sys.exit(code)
