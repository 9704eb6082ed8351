"""`harness replay`: options, gates and exit codes around `harness.replay`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from harness.cli.following import until_signalled
from harness.cli.output import write_json
from harness.cli.uml import run_in_uml_if_needed
from harness.modes import MODES
from harness.recording import places

EXIT_KERNEL, EXIT_INPUT, EXIT_DIGEST, EXIT_GATE, EXIT_UNVERIFIED = 1, 2, 3, 4, 5


def duration(text: str) -> int:
    """Nanoseconds of `1s`, `500ms`, `0`; a bare number is seconds. BadParameter otherwise."""
    try:
        return places.duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def position(text: str | None) -> tuple[str, int] | None:
    """A place in a recording: a bare number is a seq, one with a unit a time since the start."""
    try:
        return None if text is None else places.place(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.option("--mode", type=click.Choice(MODES), default="nftables", show_default=True, help="Proxy mode.")
@click.option(
    "--kernel",
    type=click.Choice(["auto", "netns", "uml", "memory", "host"]),
    default="auto",
    show_default=True,
    help="Where rules go: a throwaway namespace, a throwaway user-mode Linux (which has what ipvs needs),"
    " memory, or this host (root; its traffic is affected).",
)
@click.option(
    "--iptables-variant",
    type=click.Choice(["legacy", "nft"]),
    help="Mode iptables alone: whose tools make the rules. By default the variant with chains of kubelet or a"
    " proxy, else the one with more rules, else what the command iptables is.",
)
@click.option("--speed", default="max", show_default=True, help="max, or a factor: 1 is as recorded.")
@click.option("--from", "start", help="Measure from this seq, or time (90s); what is before is folded.")
@click.option("--until", help="Stop after this seq, or time (5m).")
@click.option("--follow", is_flag=True, help="Go on as SOURCE grows, until --until, Ctrl-C or SIGTERM.")
@click.option("--min-sync-period", default="1s", show_default=True, help="Least time between two syncs.")
@click.option("--node", help="Whose view to take; the first Node of the recording by default.")
@click.option("--cluster-cidr", help="Pod CIDRs, one a family, where the recording does not say.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write the result here too (- for stdout).")
@click.option("--svg", "svg_path", type=click.Path(dir_okay=False), help="Write the page as a picture too.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Runs; all digests must agree.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Hold the kernel against the oracle.")
@click.option("--check-every", type=click.IntRange(1), default=500, show_default=True, help="Syncs between checks.")
@click.option("--expect-digest", help="Gate: exit 3 unless the digest is this.")
@click.option("--max-p99", type=float, help="Gate: exit 4 if a change's p99 convergence exceeds these seconds.")
@click.option("--max-initial", type=float, help="Gate: exit 4 if initial convergence exceeds these seconds.")
def replay(source: str, json_path: str | None, svg_path: str | None, repeat: int, **choices) -> None:
    """Replay SOURCE into the proxy engine and say how long it took to converge.

    SOURCE is a recording (.jsonl, .jsonl.zst, - for standard input, kafka://HOST:PORT/TOPIC), or what
    kubectl prints:

    \b
      kubectl get services,endpointslices,nodes -A -o json > dump.json
      harness replay dump.json
      harness replay recordings/10k-svc.jsonl --json result.json --max-p99 1.5
      harness replay 'kafka://kafka-1:9092/prod?from=90s&until=5m'
      harness replay kafka://kafka-1:9092/prod --follow
      harness replay dump.json --mode iptables --iptables-variant legacy

    Exit codes: 0 fine; 1 the kernel refused or is not to be had; 2 bad input; 3 another digest than
    expected, or digests differ between runs; 4 a figure over its gate; 5 the kernel does not hold
    what the events say.
    """
    from harness.report.terminal import save_picture

    for path in filter(None, (json_path, svg_path)):
        if path != "-" and not Path(path).parent.is_dir():
            raise click.UsageError(f"{path}: there is no folder {Path(path).parent}")
    if source == "-" and repeat > 1:
        raise click.UsageError("standard input can be read once only: --repeat needs a file")
    if choices["follow"] and repeat > 1:
        raise click.UsageError("--follow goes on until it is stopped: it cannot be repeated")
    variant = choices["iptables_variant"]
    if variant and (choices["mode"] != "iptables" or choices["kernel"] == "memory"):
        raise click.UsageError("--iptables-variant is for --mode iptables in a real kernel")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options(choices)
    run_in_uml_if_needed(choices["kernel"], choices["mode"], source, [json_path, svg_path])
    try:
        results = [_run(source, options, choices["kernel"], variant) for _ in range(repeat)]
    except KeyboardInterrupt:
        click.echo("interrupted; nothing is left behind", err=True)
        sys.exit(130)
    _show(results, json_path)
    if svg_path:
        save_picture(results[-1], svg_path)
    sys.exit(_gates(results, choices))


def networks(texts: str | None):
    """Pod CIDRs from the option's text, None when it was not given; BadParameter otherwise."""
    from engine.addresses import parse_network

    try:
        return tuple(parse_network(text) for text in texts.split(",")) if texts else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--cluster-cidr") from None


def _options(choices: dict):
    from harness.recording.window import Window
    from harness.replay.session import Options

    try:
        factor = places.speed(choices["speed"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--speed") from None
    return Options(
        mode=choices["mode"],
        min_sync_period=duration(choices["min_sync_period"]),
        speed=factor,
        node=choices["node"],
        pod_networks=networks(choices["cluster_cidr"]),
        window=Window(position(choices["start"]), position(choices["until"])),
        verify=choices["verify"],
        check_every=choices["check_every"],
        follow=until_signalled() if choices["follow"] else None,
    )


def _run(source: str, options, kind: str, variant: str | None) -> dict:
    """One run's JSON; exits 1 or 2 with the reason on standard error."""
    from engine.kernel.base import KernelError
    from harness.recording import RecordingError
    from harness.replay.kernels import KernelUnavailable, open_kernel
    from harness.replay.session import Session

    try:
        with open_kernel(kind, options.mode, variant) as target, _progress() as progress:
            return Session(source, options, target, progress).run().as_json()
    except RecordingError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_INPUT)
    except (KernelError, KernelUnavailable) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_KERNEL)


class _progress:
    """A live line on standard error; silent where that is not a terminal."""

    def __enter__(self):
        from rich.console import Console

        console = Console(stderr=True)
        self._status = console.status("reading") if console.is_terminal else None
        if self._status:
            self._status.__enter__()
        return lambda what, count: self._status and self._status.update(f"{what}: {count:,}")

    def __exit__(self, *exception) -> None:
        if self._status:
            self._status.__exit__(*exception)


def _show(results: list[dict], json_path: str | None) -> None:
    from rich.console import Console

    from harness.report.terminal import print_result

    print_result(results[-1], Console(stderr=json_path == "-"))
    if len(results) > 1:
        seconds = sorted(result["initial"]["seconds"] for result in results)
        median = seconds[len(seconds) // 2]
        click.echo(f"{len(results)} runs: initial {seconds[0]:.3f} to {seconds[-1]:.3f} s, median {median:.3f} s")
    write_json(results[-1], json_path)


def _gates(results: list[dict], choices: dict) -> int:
    """The exit code: the first gate that fails says so on standard error."""
    if any(result["verified"] is False for result in results):
        click.echo("gate: the kernel does not hold what the events say", err=True)
        return EXIT_UNVERIFIED
    digests = {result["digest"] for result in results}
    expected = choices["expect_digest"]
    if len(digests) > 1 or (expected and digests != {expected}):
        click.echo(f"gate: digest {', '.join(sorted(digests))}, expected {expected or 'one'}", err=True)
        return EXIT_DIGEST
    for result in results:
        latency = result["change"]["convergence_seconds"]
        figures = (("max_p99", latency and latency["p99"]), ("max_initial", result["initial"]["seconds"]))
        for gate, figure in figures:
            if choices[gate] is not None and figure is not None and figure > choices[gate]:
                name = gate.replace("_", "-")
                click.echo(f"gate: --{name} {choices[gate]:g} s exceeded: {figure:.3f} s", err=True)
                return EXIT_GATE
    return 0
