"""`harness record`: options and exit codes around `harness.record`."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import click

EXIT_STOPPED, EXIT_INPUT = 1, 2
SELECTABLE = ("services", "endpointslices", "nodes", "pods")
SIZES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
EXAMPLES = """\b
Examples:
  harness record --out prod.jsonl.zst
  harness record --out prod.jsonl --context prod-eu --namespace shop --namespace pay
  harness record --kafka kafka-1:9092,kafka-2:9092 --topic prod --kafka-config client.properties
  harness record --in-cluster --pods --out /data/prod.jsonl.zst --kafka kafka:9092 --topic prod
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File: .jsonl, or .jsonl.zst compressed.")
@click.option("--kafka", metavar="HOST:PORT[,..]", help="Brokers to send to; needs --topic.")
@click.option("--topic", help="The recording's topic; made with the right settings unless it is there.")
@click.option("--kafka-config", multiple=True, metavar="KEY=VALUE|FILE", help="TLS and SASL; as in client.properties.")
@click.option("--kubeconfig", type=click.Path(exists=True, dir_okay=False), help="Instead of kubectl's own.")
@click.option("--context", help="Of the kubeconfig; the current one by default.")
@click.option("--in-cluster", is_flag=True, help="Use the service account of the pod this runs in.")
@click.option(
    "-n", "--namespace", "namespaces", multiple=True, help="Only this one; may be repeated. Nodes are all seen."
)
@click.option(
    "-l", "--selector", "selectors", multiple=True, help="Label selector, or RESOURCE:SELECTOR for one resource."
)
@click.option("--pods", is_flag=True, help="Record Pods too.")
@click.option("--cluster-cidr", help="The cluster's pod CIDRs, for replays; one a family, comma-separated.")
@click.option("--flush-every", default="500ms", show_default=True, help="Longest time until an event is on the disk.")
@click.option(
    "--spool", type=click.Path(file_okay=False, path_type=Path), help="Folder for what the topic has not got."
)
@click.option("--spool-limit", default="1GiB", show_default=True, help="Stop when the topic is that far behind.")
@click.option("--status-every", default="10s", show_default=True, help="Between two lines, where there is no terminal.")
@click.option("--for", "seconds", metavar="DURATION", help="Stop by itself after that time, such as 10m.")
def record(**choices) -> None:
    """Record a cluster's Services, EndpointSlices and Nodes, until Ctrl-C or SIGTERM.

    It lists, then watches.  What is there already, in the file or the topic, is continued: the
    recorder lists anew and records the difference, behind GAP and RELIST markers.  It may be killed at
    any moment: what it acknowledged is never lost, and nothing is recorded twice.  While the broker is
    away, events wait on the disk.

    Exit codes: 0 ended as asked; 1 it had to stop: no access, no API, the disk is full, the topic is
    too far behind, or another recorder writes it; 2 bad input: an option, a file or a topic that
    cannot hold the recording.
    """
    options = _options(choices)
    sys.exit(_record(options, _seconds(choices["status_every"]), choices["seconds"] and _seconds(choices["seconds"])))


def _record(options, status_seconds: float, limit: float | None) -> int:
    from rich.console import Console

    from harness.kafka.errors import BrokerAway
    from harness.record.api import AccessError, ApiError, Disconnected
    from harness.record.live import Live, summary
    from harness.record.recorder import RecorderStopped
    from harness.record.session import open_session
    from harness.recording import RecordingError

    try:
        session = open_session(options)
    except RecordingError as error:
        click.echo(f"error: {error}", err=True)
        return EXIT_STOPPED if isinstance(error, BrokerAway) else EXIT_INPUT
    except (AccessError, ApiError, Disconnected, RecorderStopped) as error:
        click.echo(f"error: {error}", err=True)
        return EXIT_STOPPED
    if session.log.cut:
        click.echo(f"cut off {session.log.cut} bytes at the end, half written when the recorder was killed", err=True)
    if session.past.seq:
        click.echo(f"continuing after seq {session.past.seq}", err=True)
    code = 0
    _stop_on_signals(session.recorder, limit)
    with Live(Console(stderr=True), status_seconds) as live:
        try:
            session.recorder.run(live)
        except (RecorderStopped, RecordingError, OSError) as error:
            click.echo(f"stopped: {error}", err=True)
            code = EXIT_STOPPED
        complete = _close(session, patient=code == 0)
    click.echo(summary(session.recorder, complete), err=True)
    return code


def _close(session, patient: bool) -> bool:
    try:
        return session.close(patient)
    except OSError as error:
        click.echo(f"the last events could not be written: {error}", err=True)
        return False


def _stop_on_signals(recorder, limit: float | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, lambda *_: recorder.stop())
    if limit:
        signal.setitimer(signal.ITIMER_REAL, limit)


def _options(choices: dict):
    from harness.record.api import Access
    from harness.record.session import Options

    if bool(choices["kafka"]) != bool(choices["topic"]):
        raise click.UsageError("--kafka and --topic belong together")
    if not choices["out"] and not choices["kafka"]:
        raise click.UsageError("where to? --out FILE, --kafka HOST:PORT --topic T, or both")
    resources = ("nodes", "services", "endpointslices", *(("pods",) if choices["pods"] else ()))
    cidr = choices["cluster_cidr"]
    return Options(
        out=choices["out"],
        topic=_topic(choices),
        access=Access(choices["kubeconfig"], choices["context"], choices["in_cluster"]),
        resources=resources,
        namespaces=choices["namespaces"],
        selectors=_selectors(choices["selectors"]),
        cluster=(("clusterCIDR", cidr),) if cidr else (),
        flush_seconds=_seconds(choices["flush_every"]),
        spool=choices["spool"],
        spool_bytes=_bytes(choices["spool_limit"]),
    )


def _topic(choices: dict):
    from harness.kafka.address import make_address, settings_from

    if not choices["kafka"]:
        return None
    pairs = tuple(text for text in choices["kafka_config"] if "=" in text)
    files = [text for text in choices["kafka_config"] if "=" not in text]
    if len(files) > 1:
        raise click.BadParameter("one file at most", param_hint="--kafka-config")
    try:
        return make_address(choices["kafka"], choices["topic"], settings_from(files[0] if files else None, pairs))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _selectors(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """By resource; a bare one is for all that Services bring along: Nodes have labels of another kind."""
    found: dict[str, str] = {}
    for text in texts:
        resource, colon, selector = text.partition(":")
        if colon and resource not in SELECTABLE:
            raise click.BadParameter(f"{resource!r} is none of {', '.join(SELECTABLE)}", param_hint="--selector")
        for name in (resource,) if colon else ("services", "endpointslices", "pods"):
            found[name] = ",".join(filter(None, (found.get(name), selector if colon else text)))
    return tuple(found.items())


def _seconds(text: str) -> float:
    from harness.recording.places import duration

    try:
        return duration(text) / 1e9
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([KMG]iB)?", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size such as 512MiB", param_hint="--spool-limit")
    return int(match[1]) * SIZES[match[2] or ""]
