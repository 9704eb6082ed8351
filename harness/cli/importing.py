"""`harness import`: recordings and dumps of other tools as our recordings."""

from __future__ import annotations

import sys
from datetime import datetime

import click

EXAMPLES = """\b
Examples:
  kwokctl snapshot export --record --path kwok.yaml --filter node,service,endpointslice.discovery.k8s.io
  harness import kwok.yaml cluster.jsonl
  harness import kwok.yaml.gz cluster.jsonl.zst --start 2026-01-01T00:00:00Z
  kubectl get services,endpointslices,nodes,pods -A -o yaml | harness import - dump.jsonl
  harness import watch.json watched.jsonl --name staging
"""


@click.command("import", epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.argument("destination", metavar="DST", type=click.Path(dir_okay=False))
@click.option("--start", metavar="TIME", help="When it began (RFC 3339), for KWOK's relative times.  [2000]")
@click.option("--name", help="The cluster's name, for the header.")
def importing(source: str, destination: str, start: str | None, name: str | None) -> None:
    """Write what another tool recorded or dumped in SOURCE to the recording DST (.jsonl, .jsonl.zst).

    SOURCE, or - for standard input, is YAML or JSON, plain or compressed with gzip or zstd:

    \b
      KWOK recordings  objects, then every change with its time
      KWOK snapshots   objects, one a document (--format k8s)
      kubectl dumps    Lists or objects: an initial list
      watch streams    kubectl get --watch --output-watch-events: a second from event to event

    Other kinds than Service, EndpointSlice, Node and Pod have no place; they are counted and reported.  Exits
    with 2 and the document's number and line for bad input, 1 when DST cannot be written.
    """
    from harness.imports import convert
    from harness.recording import RecordingError

    _check(start, destination)
    try:
        report = convert(source, destination, start, name)
    except RecordingError as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"{destination}: cannot be written: {error.strerror}", 1)
    click.echo(
        f"{destination}: {report.events:,} events, {report.changes:,} of them changes,"
        f" from {report.documents:,} documents"
    )
    for what, count in report.dropped.items():
        click.echo(f"  left out: {count:,} {what}")
    if not report.slices:
        click.echo("  no EndpointSlice in it, so no Service has endpoints; KWOK exports them only by --filter")


def _check(start: str | None, destination: str) -> None:
    try:
        bad = start is not None and datetime.fromisoformat(start).tzinfo is None
    except ValueError:
        bad = True
    if bad:
        raise click.UsageError(f"--start {start} is no time with its zone such as 2026-01-01T00:00:00Z")
    if destination == "-":
        raise click.UsageError("DST is written whole or not at all, so it must be a file")


def _fail(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)
