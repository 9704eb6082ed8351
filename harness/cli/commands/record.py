"""`harness record`: options and exit codes of `harness.record`."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.endings import Ending
from harness.exit_codes import EXIT_FAILED
from harness.kube.resources import PROXIED, RECORDED

if TYPE_CHECKING:
    from harness.log.kafka.address import Address
    from harness.record.recorder import Recorder
    from harness.record.session import RecordOptions, RecordSession

SELECTABLE = tuple(kind.resource for kind in RECORDED)
SIZES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
EXAMPLES = """\b
Examples:
  harness record --out prod.jsonl.zst
  harness record --out prod.jsonl --context prod-eu --namespace shop --namespace pay
  harness record --kafka kafka-1:9092,kafka-2:9092 --topic prod --kafka-config client.properties
  harness record --in-cluster --pods --out /data/prod.jsonl.zst --kafka kafka:9092 --topic prod
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write: .jsonl, or .jsonl.zst for compression.",
)
@click.option("--kafka", metavar="HOST:PORT[,..]", help="Bootstrap brokers; needs --topic.")
@click.option("--topic", help="The recording's topic; created with the required settings if missing.")
@click.option(
    "--kafka-config", multiple=True, metavar="KEY=VALUE|FILE", help="TLS and SASL settings, as in client.properties."
)
@click.option(
    "--kubeconfig", type=click.Path(exists=True, dir_okay=False), help="Kubeconfig file; kubectl's own by default."
)
@click.option("--context", help="Context of the kubeconfig; the current one by default.")
@click.option("--in-cluster", is_flag=True, help="Use the service account of the pod this runs in.")
@click.option(
    "-n", "--namespace", "namespaces", multiple=True, help="Only this namespace; repeatable. Nodes are always recorded."
)
@click.option(
    "-l", "--selector", "selectors", multiple=True, help="Label selector, or RESOURCE:SELECTOR for one resource."
)
@click.option("--pods", is_flag=True, help="Also record Pods.")
@click.option("--cluster-cidr", help="The cluster's pod CIDRs, to be used by replays; one per family, comma-separated.")
@click.option("--flush-every", default="500ms", show_default=True, help="Maximum time until an event is on disk.")
@click.option(
    "--spool", type=click.Path(file_okay=False, path_type=Path), help="Folder for events not yet in the topic."
)
@click.option("--spool-limit", default="1GiB", show_default=True, help="Stop when this much is waiting for the topic.")
@click.option(
    "--status-every",
    default="10s",
    show_default=True,
    help="Time between status lines when standard error is not a terminal.",
)
@click.option("--for", "seconds", metavar="DURATION", help="Stop after this time, such as 10m.")
def record(**choices: Any) -> None:
    """Record a cluster's watch events.

    Records Services, EndpointSlices and Nodes, until Ctrl-C or SIGTERM.

    The recorder lists, then watches.  An existing recording in the file or the topic is continued: the
    recorder lists again and records the differences after GAP and RELIST markers.  It may be killed at
    any time: acknowledged events are never lost, and nothing is recorded twice.  While the broker is
    unavailable, events are kept on disk.

    Exit codes: 0 stopped as requested; 1 it had to stop: no access, no API, the disk is full, the topic
    is too far behind, or another recorder writes to it; 2 bad input: an invalid option, or a file or
    topic that cannot hold the recording.
    """
    options = _options(choices)
    sys.exit(_record(options, _seconds(choices["status_every"]), choices["seconds"] and _seconds(choices["seconds"])))


def _record(options: RecordOptions, status_seconds: float, limit: float | None) -> int:
    from rich.console import Console

    from harness.cli.verbosity import asked, say
    from harness.log import RecordingError
    from harness.log.kafka.trouble import BrokerAway
    from harness.record.live import Live, summary
    from harness.record.recorder import RecorderStopped
    from harness.record.session import open_session

    try:
        session = open_session(options)
    except BrokerAway as error:
        raise Ending(str(error), EXIT_FAILED) from None
    if session.log.cut:
        click.echo(
            f"removed {session.log.cut} bytes of an incomplete line left at the end by a killed recorder", err=True
        )
    for note in session.notes:
        click.echo(f"warning: {note}", err=True)
    if session.past.seq:
        click.echo(f"continuing after seq {session.past.seq}", err=True)
    code = 0
    _stop_on_signals(session.recorder, limit)
    with Live(Console(stderr=True, quiet=asked().quiet), status_seconds) as live:
        try:
            session.recorder.run(live)
        except (RecorderStopped, RecordingError, OSError) as error:
            click.echo(f"stopped: {error}", err=True)
            code = EXIT_FAILED
        complete = _close(session, patient=code == 0)
    say(summary(session.recorder, complete), err=True)
    return code


def _close(session: RecordSession, patient: bool) -> bool:
    try:
        return session.close(patient)
    except OSError as error:
        click.echo(f"the last events could not be written: {error}", err=True)
        return False


def _stop_on_signals(recorder: Recorder, limit: float | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, lambda *_: recorder.stop())
    if limit:
        signal.setitimer(signal.ITIMER_REAL, limit)


def _options(choices: dict[str, Any]) -> RecordOptions:
    from harness.kube.access import Access
    from harness.record.session import RecordOptions

    if bool(choices["kafka"]) != bool(choices["topic"]):
        raise click.UsageError("--kafka and --topic must be given together")
    if not choices["out"] and not choices["kafka"]:
        raise click.UsageError("no destination: give --out FILE, --kafka HOST:PORT --topic TOPIC, or both")
    resources = (*PROXIED, *(("pods",) if choices["pods"] else ()))
    cidr = choices["cluster_cidr"]
    return RecordOptions(
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


def _topic(choices: dict[str, Any]) -> Address | None:
    from harness.log.kafka.address import make_address, settings_from

    if not choices["kafka"]:
        return None
    pairs = tuple(text for text in choices["kafka_config"] if "=" in text)
    files = [text for text in choices["kafka_config"] if "=" not in text]
    if len(files) > 1:
        raise click.BadParameter("at most one file", param_hint="--kafka-config")
    try:
        return make_address(choices["kafka"], choices["topic"], settings_from(files[0] if files else None, pairs))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _selectors(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Selectors by resource; a bare one applies to all resources but Nodes, whose labels are unrelated."""
    found: dict[str, str] = {}
    for text in texts:
        resource, colon, selector = text.partition(":")
        if colon and resource not in SELECTABLE:
            raise click.BadParameter(f"{resource!r} is not one of {', '.join(SELECTABLE)}", param_hint="--selector")
        for name in (resource,) if colon else ("services", "endpointslices", "pods"):
            found[name] = ",".join(filter(None, (found.get(name), selector if colon else text)))
    return tuple(found.items())


def _seconds(text: str) -> float:
    from harness.log.positions import duration

    try:
        return duration(text) / 1e9
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([KMG]iB)?", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size such as 512MiB", param_hint="--spool-limit")
    return int(match[1]) * SIZES[match[2] or ""]
