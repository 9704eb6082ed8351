"""`harness replay`: options, gates and exit codes of `harness.replay`."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from harness.cli.endings import Ending, complain
from harness.cli.following import live_figures, until_signalled
from harness.cli.kube_version import kube_version
from harness.cli.options import LIMITS, duration, gates, networks, verifying
from harness.cli.output import OutputPath, output_format, this_command, write_json, write_text
from harness.cli.position import position_or_none
from harness.cli.progress import Progress
from harness.cli.value_completion import files, nodes
from harness.cli.verbosity import asked
from harness.cli.vm import EMULATED_PART, KernelChoice, folder_of, part_alone, run_in_vm_if_needed
from harness.exit_codes import EXIT_FAILED
from harness.log import positions
from harness.modes import MODES, mode_of

if TYPE_CHECKING:
    from harness.replay.result import ReplayResult
    from harness.replay.session import ReplayOptions


class Digest(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """64 hexadecimal digits."""

    name = "digest"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Extends click: BadParameter unless the value is a digest."""
        if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
            self.fail(f"{value!r} is not a digest (64 hexadecimal digits, as printed by a replay)", param, ctx)
        return value.lower()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", shell_complete=files)
@click.option("--mode", type=click.Choice(MODES), default="nftables", show_default=True, help="Proxy mode.")
@click.option(
    "--kernel",
    type=KernelChoice("auto", "netns", "vm", "memory", "host"),
    default="auto",
    show_default=True,
    help="Kernel to program: a throwaway namespace (netns), a virtual machine with another kernel (vm; IMAGE is a"
    " Debian package's name or the path of a vmlinuz, see docs/kernels.md), none (memory), or this host's (host; needs"
    " root and affects its traffic). auto uses a namespace, a virtual machine if this kernel lacks what ipvs needs, and"
    " memory, unverified, if neither is available; with a gate, or if CI is set, that is an error.",
)
@click.option(
    "--iptables-variant",
    type=click.Choice(["legacy", "nft"]),
    help="Mode iptables only: the variant of its tools. By default the variant that has chains of kubelet or of a"
    " proxy, else the one with more rules, else that of the command iptables.",
)
@click.option("--speed", default="max", show_default=True, help="max, or a factor: 1 is the recorded speed.")
@click.option(
    "--from", "start", help="Measure from this seq or time (90s); earlier events are applied but not measured."
)
@click.option("--until", help="Stop after this seq or time (5m).")
@click.option(
    "--whole",
    is_flag=True,
    help="Replay all of SOURCE even in the emulated machine that ipvs falls back to; by default only its first 10 s.",
)
@click.option("--follow", is_flag=True, help="Keep replaying as SOURCE grows, until --until, Ctrl-C or SIGTERM.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="With --follow: serve Prometheus metrics on this port of 127.0.0.1; 0 picks a free one.",
)
@click.option("--min-sync-period", default="1s", show_default=True, help="Minimum time between two syncs.")
@click.option(
    "--node", shell_complete=nodes, help="Node whose rules to compute; by default the recording's first Node."
)
@kube_version
@click.option("--cluster-cidr", help="Pod CIDRs, one per family, if the recording has none.")
@output_format
@click.option("--json", "json_path", type=OutputPath(), help="Also write the result to this file (- for stdout).")
@click.option("--html", "html_path", type=OutputPath(), help="Also write a self-contained HTML page with charts.")
@click.option("--svg", "svg_path", type=OutputPath(), help="Also write the terminal output as a picture.")
@click.option(
    "--repeat", type=click.IntRange(1), default=1, show_default=True, help="Number of runs; all digests must be equal."
)
@verifying
@click.option(
    "--check-every",
    type=click.IntRange(1),
    help="Number of batches of events between checks. By default chosen so that checking takes no longer than the"
    " replay itself, or 10 s for each way of checking (of 5,000 Services and more: 3 s, after the first check).",
)
@click.option("--expect-digest", type=Digest(), help="Gate: exit 3 unless this is the digest.")
@gates
def replay(
    source: str, json_path: str | None, html_path: str | None, svg_path: str | None, repeat: int, **choices: Any
) -> None:
    """Replay a recording and measure convergence.

    SOURCE is a recording (.jsonl, .jsonl.zst, - for standard input, kafka://HOST:PORT/TOPIC), or
    kubectl's output:

    \b
      kubectl get services,endpointslices,nodes -A -o json > dump.json
      harness replay dump.json
      harness replay recordings/10k-svc.jsonl --json result.json --max-p99 1.5
      harness replay 'kafka://kafka-1:9092/prod?from=90s&until=5m'
      harness replay kafka://kafka-1:9092/prod --follow
      harness replay dump.json --mode iptables --iptables-variant legacy
      harness replay dump.json --kernel vm:linux-image-6.12-amd64

    Exit codes: 0 success; 1 the kernel is not available or rejected the rules; 2 bad input; 3 the digest
    is not the expected one, or differs between runs; 4 a figure exceeds its gate; 5 the kernel does not
    match the events; 6 unknown: a gate had nothing to measure, or nothing could be verified.
    """
    from harness.replay.objectives import judge
    from harness.replay.report.page import replay_page
    from harness.replay.report.terminal import picture

    if source == "-" and repeat > 1:
        raise click.UsageError("standard input can be read only once; --repeat needs a file")
    if choices["follow"] and repeat > 1:
        raise click.UsageError("--follow runs until it is stopped; it cannot be combined with --repeat")
    variant = choices["iptables_variant"]
    if variant and (variant not in mode_of(choices["mode"]).variants or choices["kernel"] == "memory"):
        raise click.UsageError("--iptables-variant applies only to --mode iptables in a real kernel")
    whole = choices.pop("whole") or choices["until"] or choices["expect_digest"]
    if part_alone() and not whole:
        choices["until"] = EMULATED_PART
        click.echo(
            f"emulated machine: only the first {EMULATED_PART} are replayed; use --whole or --until to change this",
            err=True,
        )
    options = _options(choices)
    if choices["follow"] and choices["kernel"].startswith("vm"):
        raise click.UsageError("--follow is not supported with --kernel vm, whose machine does not see the source grow")
    run_in_vm_if_needed(choices["kernel"], choices["mode"], [source], map(folder_of, (json_path, html_path, svg_path)))
    if choices["metrics_port"] is not None and not choices["follow"]:
        raise click.UsageError("--metrics-port needs --follow; other replays write --json")
    if choices["follow"]:  # signals end the source from here on
        options = dataclasses.replace(options, follow=until_signalled())
    results = [_run(source, options, _kernel(choices), variant, choices["metrics_port"]) for _ in range(repeat)]
    found = judge(results, {name: choices[name] for name in LIMITS}, choices["expect_digest"])
    result = msgspec.structs.replace(results[-1], objectives=[each.objective for each in found])
    _show(result, [each.initial.seconds for each in results], json_path)
    if svg_path:
        write_text(picture(result), svg_path)
    if html_path:
        write_text(replay_page(result, this_command()), html_path)
    sys.exit(complain(found, asked=_limited(choices) or choices["verify"] != "none"))


def _limited(choices: dict[str, Any]) -> bool:
    """Whether a figure has a limit."""
    return any(choices[name] is not None for name in LIMITS)


def _kernel(choices: dict[str, Any]) -> str:
    """The kind of kernel to open: `auto` may fall back to memory only if no gate depends on the kernel."""
    gated = choices["expect_digest"] is not None or _limited(choices)
    on_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    kernel: str = choices["kernel"]
    return "netns" if kernel == "auto" and (gated or on_ci) else kernel


def _options(choices: dict[str, Any]) -> ReplayOptions:
    from harness.log.window import Window
    from harness.replay.session import ReplayOptions

    try:
        factor = positions.speed(choices["speed"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--speed") from None
    return ReplayOptions(
        mode=choices["mode"],
        min_sync_period=duration(choices["min_sync_period"]),
        speed=factor,
        node=choices["node"],
        pod_networks=networks(choices["cluster_cidr"]),
        window=Window(position_or_none(choices["start"]), position_or_none(choices["until"])),
        verify=choices["verify"],
        check_every=choices["check_every"],
        **({"version": choices["kube_version"]} if choices["kube_version"] else {}),
    )


def _run(source: str, options: ReplayOptions, kind: str, variant: str | None, metrics_port: int | None) -> ReplayResult:
    """The result of one run; on an error, prints the reason and exits with 1 or 2."""
    from engine.kernel.interface import KernelError
    from harness.replay.kernels import open_kernel
    from harness.replay.session import ReplaySession

    try:
        with (
            open_kernel(kind, options.mode, variant, options.packets) as target,
            live_figures(bool(options.follow), metrics_port, options.mode) as (watchers, detail),
            Progress("reading") as progress,
        ):
            session = ReplaySession(source, options, target, progress.count, watchers)
            progress.detail = detail or session.first_figure
            return session.run()
    except KernelError as error:
        raise Ending(str(error), EXIT_FAILED) from None


def _show(result: ReplayResult, initial: list[float], json_path: str | None) -> None:
    """Print and write the result; `initial` has the seconds of initial convergence of all runs."""
    from rich.console import Console

    from harness.replay.report.terminal import print_result

    print_result(result, Console(stderr=json_path == "-", quiet=asked().quiet))
    if len(initial) > 1:
        seconds = sorted(initial)
        median = seconds[len(seconds) // 2]
        click.echo(f"{len(seconds)} runs: initial {seconds[0]:.3f} to {seconds[-1]:.3f} s, median {median:.3f} s")
    write_json(result, json_path)
