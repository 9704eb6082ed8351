"""`proxy-engine`: reads its command line and configuration, and runs the node's service proxy.

argv -> command_line -> complete (file, host name) -> Options -> --write-config-to | run
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from importlib.metadata import version as installed_version
from pathlib import Path

from click.exceptions import Exit

from engine.config import NEWEST
from engine.paths import add_sbin
from engine.server.config.command_line import PROGRAM, CommandLine, FlagError, command, parse
from engine.server.config.complete import Completed, complete
from engine.server.config.configuration import ConfigurationError
from engine.server.config.decode import encode
from engine.server.config.options import EngineOptions
from engine.server.runtime import logs

log = logs.get_log(__name__)


def main(argv: list[str] | None = None) -> int:
    """Run the daemon; exit statuses are documented in its help."""
    try:
        line = parse(sys.argv[1:] if argv is None else argv)
    except Exit as done:
        return done.exit_code
    except FlagError as error:
        # Usage first, so that the error is the last line on a terminal.
        print(f"{command().get_usage(command().make_context(PROGRAM, []))}", file=sys.stderr)
        print(f"Try '{PROGRAM} --help' for all flags.\n\nError: {error}", file=sys.stderr)
        return 1
    add_sbin()
    if line.version:
        print(version_text())
        return 0
    return _start(line)


def version_text() -> str:
    """This package's version, and the Kubernetes release whose kube-proxy it follows."""
    return f"{PROGRAM} {installed_version('kube-proxy-harness')} (as kube-proxy of Kubernetes v{NEWEST[0]}.{NEWEST[1]})"


def _start(line: CommandLine) -> int:
    for text in line.deprecations:
        print(text, file=sys.stderr)
    try:
        completed = complete(line, lambda path: Path(path).read_bytes(), socket.gethostname)
    except ConfigurationError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    logs.configure(completed.options.configuration.logging)
    _log_notes(completed)
    target = line.values.get("write-config-to")
    if target:
        return _write_configuration(completed.options, Path(target))
    # Imported late: --help and --write-config-to need neither the API client nor a kernel.
    try:
        from engine.server.runtime.run import run
    except ModuleNotFoundError as error:
        package = f"the Python package {error.name} is missing; in a checkout: pip install '.[cluster]'"
        print(f"Error: {package}", file=sys.stderr)
        return 1
    return run(completed.options)


def _log_notes(completed: Completed) -> None:
    for note in completed.notes:
        log.info(note.message, v=note.v, **note.pairs)


def _write_configuration(options: EngineOptions, target: Path) -> int:
    """Write the effective configuration atomically (CFG-14)."""
    text = encode(options.configuration)
    try:
        if target.exists() and not target.is_file():
            target.write_text(text)  # a terminal or a pipe
        else:
            _replace(target.resolve(), text)  # a symbolic link is kept
    except OSError as error:
        print(f"Error: open {target}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 1
    log.info("Wrote configuration", file=target)
    return 0


def _replace(target: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=f".{target.name}.", delete=False) as draft:
        draft.write(text)
    try:
        os.chmod(draft.name, 0o644)
        os.replace(draft.name, target)
    except OSError:
        os.unlink(draft.name)
        raise


if __name__ == "__main__":
    sys.exit(main())
