"""`harness redact`: a recording without the names and addresses of the cluster that it is from."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.output import write_json

if TYPE_CHECKING:
    from harness.redact import Report

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
@click.argument("source")
@click.argument("destination", metavar="DST", type=click.Path(dir_okay=False))
@click.option("--key-file", type=click.Path(dir_okay=False), help="The secret, 16 bytes or more.")
@click.option("--new-key", type=click.Path(dir_okay=False), help="Write the secret, made at random, to this new file.")
@click.option(
    "--report", "report_path", type=click.Path(dir_okay=False), help="What was dropped, as JSON (- for stdout)."
)
def redact(source: str, destination: str, key_file: str | None, new_key: str | None, report_path: str | None) -> None:
    """Write SOURCE to DST (.jsonl, .jsonl.zst) so that it can leave the company.

    Names, namespaces, labels, annotations, hosts and zones become other words, addresses become others of the
    same ranges and subnets, wherever they stand; times, order, conditions and ports stay, so DST converges as
    SOURCE does.  What has no place in it is dropped and counted.  docs/redact.md says what may still be learnt.

    The secret comes from --key-file, from the environment's HARNESS_REDACT_KEY, or is made up and forgotten;
    with the same secret the same names come out again, and whoever has it can find out what was what.

    SOURCE is read twice, so it is a file.  Exits with 2 for bad input, 1 when DST cannot be written.
    """
    _refuse(source, destination)
    key = _key(key_file, new_key)
    try:
        report = _redact(source, destination, key)
    except BaseException:
        if new_key:
            Path(new_key).unlink(missing_ok=True)
        raise
    try:
        write_json(_facts(report), report_path)
    except OSError as error:
        _fail(f"{report_path}: cannot be written: {error.strerror}; {destination} is complete", 1)
    _show(destination, report, err=report_path == "-")


def _redact(source: str, destination: str, key: bytes) -> Report:
    from harness.recording import RecordingError
    from harness.redact import redact as run

    try:
        return run(source, destination, key)
    except RecordingError as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"{destination}: cannot be written: {error.strerror}", 1)


def _refuse(source: str, destination: str) -> None:
    if source == "-":
        _fail("standard input can be read only once, redaction reads twice: save it to a file first", 2)
    if destination == "-":
        _fail("DST is written whole or not at all, so it must be a file", 2)
    if os.path.exists(destination) and os.path.exists(source) and os.path.samefile(source, destination):
        _fail(f"{destination}: is the source itself; name another file", 2)


def _key(key_file: str | None, new_key: str | None) -> bytes:
    """The secret; a new one is written to its file, which only its owner may read."""
    if key_file and new_key:
        raise click.UsageError("--key-file and --new-key: one of them")
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
        _fail(f"{origin}: a secret of {len(key)} bytes can be guessed; {LEAST_KEY_BYTES} or more are needed", 2)
    return key


def _write_key(path: str, key: bytes) -> bytes:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(key + b"\n")
    except FileExistsError:
        _fail(f"{path}: exists; use it with --key-file, or name a new file", 2)
    except OSError as error:
        _fail(f"{path}: cannot be written: {error.strerror}", 1)
    return key


def _facts(report: Report) -> dict:
    import msgspec

    return msgspec.to_builtins(report)


def _show(destination: str, report: Report, err: bool) -> None:
    click.echo(
        f"{destination}: {report.events:,} events, {report.names + report.short_names:,} names replaced", err=err
    )
    if report.dropped:
        click.echo("dropped:", err=err)
    for path, count in report.dropped.items():
        click.echo(f"  {count:>9,}  {path}", err=err)


def _fail(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)
