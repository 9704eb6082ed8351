"""`harness redact`: replaces the names and addresses in a recording."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from harness.cli.endings import Ending
from harness.cli.output import OutputPath, write_json
from harness.cli.progress import Progress
from harness.cli.value_completion import files
from harness.cli.verbosity import say
from harness.wording import plural

if TYPE_CHECKING:
    from harness.log.redact import Report

KEY_VARIABLE = "HARNESS_REDACT_KEY"
LEAST_KEY_BYTES = 16

EXAMPLES = """\b
Examples:
  harness redact prod.jsonl public.jsonl.zst
  harness redact prod.jsonl public.jsonl --new-key redact.key
  harness redact more.jsonl public-2.jsonl --key-file redact.key    the same names again
  harness redact dump.json public.jsonl --report dropped.json
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", shell_complete=files)
@click.argument("destination", metavar="DST")
@click.option("--key-file", type=click.Path(dir_okay=False), help="File with the secret, 16 bytes or more.")
@click.option(
    "--new-key", type=click.Path(dir_okay=False), help="Generate a random secret and write it to this new file."
)
@click.option("--report", "report_path", type=OutputPath(), help="Write what was dropped as JSON (- for stdout).")
def redact(source: str, destination: str, key_file: str | None, new_key: str | None, report_path: str | None) -> None:
    """Anonymize a recording so that it can be shared.

    DST is a .jsonl or .jsonl.zst file.

    Names, namespaces, labels, annotations, hosts and zones are replaced by other words, and addresses by others
    of the same ranges and subnets, wherever they occur; times, order, conditions and ports are kept, so DST
    converges like SOURCE.  Unknown fields are dropped and counted.  docs/redact.md lists what DST still reveals.

    The secret is read from --key-file or the environment variable HARNESS_REDACT_KEY; otherwise a random one is
    used and discarded.  The same secret yields the same names again, and allows the replacement to be reversed.

    SOURCE must be a file, as it is read twice.  Exits with 2 for bad input, or if DST cannot be written.
    """
    _refuse(source, destination)
    key = _key(key_file, new_key)
    try:
        report = _redact(source, destination, key)
    except BaseException:
        if new_key:
            Path(new_key).unlink(missing_ok=True)
        raise
    write_json(_facts(report), report_path)
    _show(destination, report, err=report_path == "-")


def _redact(source: str, destination: str, key: bytes) -> Report:
    from harness.log import RecordingError
    from harness.log.redact import redact as run

    try:
        with Progress("redacting"):
            return run(source, destination, key)
    except RecordingError as error:
        _fail(str(error), 2)


def _refuse(source: str, destination: str) -> None:
    if source == "-":
        _fail("standard input cannot be read twice, as redaction does: save it to a file first", 2)
    if destination == "-":
        _fail("DST must be a file: it is written completely or not at all", 2)
    if os.path.exists(destination) and os.path.exists(source) and os.path.samefile(source, destination):
        _fail(f"{destination}: is the source itself; choose another file", 2)


def _key(key_file: str | None, new_key: str | None) -> bytes:
    """The secret; a new one is written to a file that only its owner can read."""
    if key_file and new_key:
        raise click.UsageError("--key-file and --new-key exclude each other")
    if new_key:
        return _write_key(new_key, secrets.token_hex(32).encode())
    if key_file:
        try:
            return _checked(key_file, Path(key_file).read_bytes().strip())
        except OSError as error:
            _fail(f"{key_file}: cannot be read: {error.strerror}", 2)
    if KEY_VARIABLE in os.environ:
        return _checked(KEY_VARIABLE, os.environb[KEY_VARIABLE.encode()])
    return secrets.token_bytes(32)


def _checked(origin: str, key: bytes) -> bytes:
    if len(key) < LEAST_KEY_BYTES:
        _fail(
            f"{origin}: a secret of {plural(len(key), 'byte')} is too short; at least {LEAST_KEY_BYTES} are needed", 2
        )
    return key


def _write_key(path: str, key: bytes) -> bytes:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(key + b"\n")
    except FileExistsError:
        _fail(f"{path}: exists; use it with --key-file, or choose a new file", 2)
    except OSError as error:
        _fail(f"{path}: cannot be written: {error.strerror}", 1)
    return key


def _facts(report: Report) -> dict[str, Any]:
    import msgspec

    facts: dict[str, Any] = msgspec.to_builtins(report)
    return facts


def _show(destination: str, report: Report, err: bool) -> None:
    say(
        f"{destination}: {plural(report.events, 'event')},"
        f" {plural(report.names + report.short_names, 'name')} replaced",
        err=err,
    )
    if report.dropped:
        say("dropped:", err=err)
    for path, count in report.dropped.items():
        say(f"  {count:>9,}  {path}", err=err)


def _fail(message: str, code: int) -> NoReturn:
    raise Ending(message, code, prefix="")
