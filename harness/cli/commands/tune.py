"""`harness tune`: options and exit codes of `harness.fleet.tune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from harness.cli.endings import Ending
from harness.cli.kube_version import kube_version
from harness.cli.options import duration, networks
from harness.cli.output import OutputPath, output_format, this_command, write_json, write_text
from harness.cli.position import position_or_none
from harness.cli.progress import Progress
from harness.cli.value_completion import files, nodes
from harness.cli.verbosity import asked
from harness.exit_codes import EXIT_FAILED, EXIT_INPUT
from harness.modes import MODES

if TYPE_CHECKING:
    from harness.fleet.result import Sweep
    from harness.fleet.tape import Tape

PERIODS = "0,100ms,200ms,500ms,1s,2s,5s,10s,30s"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", shell_complete=files)
@click.option("--mode", type=click.Choice(MODES), default="nftables", show_default=True, help="Proxy mode.")
@click.option("--periods", default=PERIODS, show_default=True, help="Values of minSyncPeriod to try.")
@click.option(
    "--kernel",
    type=click.Choice(["memory", "netns"]),
    default="memory",
    show_default=True,
    help="Measure in memory, or with a throwaway namespace's kernel, whose work then is a part of the cost.",
)
@click.option("--node", shell_complete=nodes, help="Node to measure on; by default the recording's first Node.")
@click.option("--until", help="Stop after this seq or time (5m).")
@kube_version
@click.option("--cluster-cidr", help="Pod CIDRs, one per family, if the recording has none.")
@output_format
@click.option("--json", "json_path", type=OutputPath(), help="Also write the result to this file (- for stdout).")
@click.option("--html", "html_path", type=OutputPath(), help="Also write a self-contained HTML page.")
def tune(source: str, json_path: str | None, html_path: str | None, **choices: Any) -> None:
    """Try values of minSyncPeriod on a recording.

    For each value: how often the proxy syncs and what that costs in CPU time, and how soon a change is live (p99).
    The knee is the value beyond which waiting longer saves little, by the method Kneedle.

    \b
      harness tune recordings/demo.jsonl
      harness tune recordings/10k-svc.jsonl --mode iptables --periods 1s,5s,10s,30s
      harness tune recordings/demo.jsonl --periods 0,1s,5s --html tune.html
      harness tune prod.jsonl --kernel netns --node node-0002 -o json

    Exit codes: 0 success; 1 the kernel is not available or rejected the rules; 2 bad input, or no change
    reaches the kernel.
    """
    from engine.config import NEWEST
    from engine.kernel.interface import KernelError
    from harness.fleet.stage import FleetSettings
    from harness.fleet.tape import read_tape
    from harness.fleet.tune import sweep, swept
    from harness.fleet.tune_page import tune_page
    from harness.log.window import Window

    periods = [duration(text) for text in choices["periods"].split(",")]
    version = choices["kube_version"] or NEWEST
    settings = FleetSettings(choices["mode"], networks(choices["cluster_cidr"]), version)
    with Progress("reading the recording") as progress:
        tape = read_tape(source, Window(until=position_or_none(choices["until"])), version)
        node = _node(choices["node"], tape)
        progress.step("trying periods", len(periods))
        try:
            points = swept(tape, settings, node, choices["kernel"], periods, progress.done)
        except KernelError as error:
            raise Ending(str(error), EXIT_FAILED) from None
        except ValueError as error:
            raise Ending(f"{source}: {error}", EXIT_INPUT) from None
    result = sweep(source, tape, settings, node, choices["kernel"], points)
    _show(result, json_path)
    if html_path:
        write_text(tune_page(result, this_command()), html_path)


def _node(name: str | None, tape: Tape) -> str:
    if name is not None and name.lower() not in tape.nodes:
        first = next(iter(tape.nodes))
        raise click.BadParameter(f"no Node {name!r} in the initial list, such as {first}", param_hint="--node")
    return name.lower() if name else next(iter(tape.nodes))


def _show(result: Sweep, json_path: str | None) -> None:
    from rich.console import Console

    from harness.fleet.terminal import print_sweep

    print_sweep(result, Console(stderr=json_path == "-", quiet=asked().quiet))
    write_json(result, json_path)
