"""`harness import`: converts recordings and dumps of other tools."""

from __future__ import annotations

from datetime import datetime
from typing import NoReturn

import click

from harness.cli.endings import Ending
from harness.cli.progress import Progress
from harness.cli.value_completion import files
from harness.wording import plural

EXAMPLES = """\b
Examples:
  kwokctl snapshot export --record --path kwok.yaml --filter node,service,endpointslice.discovery.k8s.io
  harness import kwok.yaml cluster.jsonl
  harness import kwok.yaml.gz cluster.jsonl.zst --start 2026-01-01T00:00:00Z
  kubectl get services,endpointslices,nodes,pods -A -o yaml | harness import - dump.jsonl
  harness import watch.json watched.jsonl --name staging
"""


@click.command("import", epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", shell_complete=files)
@click.argument("destination", metavar="DST")
@click.option("--start", metavar="TIME", help="Start time (RFC 3339), as KWOK's times are relative.  [2000]")
@click.option("--name", help="Cluster name to store in the header.")
def importing(source: str, destination: str, start: str | None, name: str | None) -> None:
    """Convert another tool's recording or dump to a recording.

    DST is a .jsonl or .jsonl.zst file.

    SOURCE, or - for standard input, is YAML or JSON, plain or compressed with gzip or zstd:

    \b
      KWOK recordings  objects, then every change with its time
      KWOK snapshots   objects, one per document (--format k8s)
      kubectl dumps    Lists or objects; they become the initial list
      watch streams    kubectl get --watch --output-watch-events; events are spaced one second apart

    Kinds other than Service, EndpointSlice, Node and Pod are left out; they are counted and reported.  Exits
    with 2 if the input is invalid, naming the document and line, or if DST cannot be written.
    """
    from harness.log import RecordingError
    from harness.log.imports import convert

    _check(start, destination)
    try:
        with Progress("importing"):
            report = convert(source, destination, start, name)
    except RecordingError as error:
        _fail(str(error), 2)
    click.echo(
        f"{destination}: {plural(report.events, 'event')}, of which {report.changes:,} are changes,"
        f" from {plural(report.documents, 'document')}"
    )
    for what, count in report.dropped.items():
        click.echo(f"  left out: {count:,} {what}")
    if not report.slices:
        click.echo("  contains no EndpointSlice, so no Service has endpoints; KWOK exports them only with --filter")


def _check(start: str | None, destination: str) -> None:
    try:
        bad = start is not None and datetime.fromisoformat(start).tzinfo is None
    except ValueError:
        bad = True
    if bad:
        raise click.UsageError(f"--start {start} is not a time with a time zone, such as 2026-01-01T00:00:00Z")
    if destination == "-":
        raise click.UsageError("DST must be a file: it is written completely or not at all")


def _fail(message: str, code: int) -> NoReturn:
    raise Ending(message, code, prefix="")
