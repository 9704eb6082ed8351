"""`harness fleet`: options, gates and exit codes of `harness.fleet`."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from harness.cli.endings import Ending, complain
from harness.cli.kube_version import kube_version
from harness.cli.options import Seconds, duration, networks
from harness.cli.output import OutputPath, output_format, this_command, write_json, write_text
from harness.cli.position import position_or_none
from harness.cli.progress import Progress
from harness.cli.value_completion import files
from harness.cli.verbosity import asked as wanted
from harness.exit_codes import EXIT_FAILED, EXIT_INPUT
from harness.modes import MODES

if TYPE_CHECKING:
    from harness.fleet.result import FleetResult, SampledNode
    from harness.fleet.spread import Done, FleetWork

LIMITS = ("max_p99", "max_dead", "max_for_nothing")


def spreading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator that adds the options that select where views are computed."""
    command = click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Use the workers of this Dask scheduler (tcp://HOST:8786), which must reach SOURCE under the same name.",
    )(command)
    return click.option(
        "--workers",
        type=click.IntRange(0),
        help="Worker processes on this machine; 0 computes in this process.  [default: one per core]",
    )(command)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", shell_complete=files)
@click.option("--mode", type=click.Choice(MODES), default="nftables", show_default=True, help="Proxy mode.")
@click.option(
    "--nodes",
    default="all",
    show_default=True,
    help="Nodes to view: all, a number of them, evenly spaced, or a pattern such as 'node-00*'.",
)
@click.option(
    "--what-if",
    multiple=True,
    metavar="SETTING=VALUES",
    help="Also compute another setting, in an additional column: minSyncPeriod=5s,10s, hints=off, or slices=1000"
    " (endpoints per slice). May be given several times.",
)
@click.option("--min-sync-period", default="1s", show_default=True, help="Minimum time between two syncs.")
@click.option("--until", help="Stop after this seq or time (5m).")
@kube_version
@click.option("--cluster-cidr", help="Pod CIDRs, one per family, if the recording has none.")
@spreading
@click.option(
    "--sample",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Number of nodes that are also replayed one by one in memory; their digests must be equal.",
)
@click.option(
    "--verify-nodes",
    metavar="N|PATTERN",
    help="Nodes that are also replayed into real kernels, in throwaway namespaces, and verified.",
)
@output_format
@click.option("--json", "json_path", type=OutputPath(), help="Also write the result to this file (- for stdout).")
@click.option("--html", "html_path", type=OutputPath(), help="Also write a self-contained HTML page.")
@click.option("--max-p99", type=Seconds(), help="Gate: exit 4 if the p99 of convergence over all nodes exceeds this.")
@click.option(
    "--max-dead", type=Seconds(), help="Gate: exit 4 if any node sent traffic to a dead endpoint for longer than this."
)
@click.option(
    "--max-for-nothing",
    type=click.FloatRange(0, 100),
    help="Gate: exit 4 if more than this percentage of all syncs changed nothing.",
)
def fleet(source: str, json_path: str | None, html_path: str | None, **choices: Any) -> None:
    """View one recording from all of its nodes.

    Each node has its own zone, endpoints, hints and addresses, so its rules differ, and so does what a
    change costs it.  What is the same for all nodes is computed once.  SOURCE is a recording, kubectl's
    JSON, or kafka://HOST:PORT/TOPIC.

    \b
      harness fleet recordings/demo.jsonl
      harness fleet recordings/10k-svc.jsonl --nodes 50 --html fleet.html
      harness fleet recordings/demo.jsonl --what-if minSyncPeriod=5s,10s --what-if hints=off
      harness fleet recordings/demo.jsonl --verify-nodes 1 --max-p99 1.5 --max-dead 2
      harness fleet /shared/prod.jsonl.zst --scheduler tcp://scheduler:8786

    Exit codes: 0 success; 1 a kernel or the workers are not available; 2 bad input; 3 a view is not
    that of the node's own replay; 4 a figure exceeds its gate; 5 a kernel does not match the events;
    6 unknown: a gate had nothing to measure.
    """
    from harness.fleet.answer import answer
    from harness.fleet.gates import judged
    from harness.fleet.page import fleet_page

    task = _task(source, choices)
    began = time.perf_counter()
    done = computed(task, choices["workers"], choices["scheduler"])
    seconds = time.perf_counter() - began
    result = answer(source, done, _samples(done, task, choices), seconds)
    objectives = judged(result, {name: choices[name] for name in LIMITS})
    result = msgspec.structs.replace(result, objectives=[each.objective for each in objectives])
    _show(result, json_path)
    if html_path:
        write_text(fleet_page(result, this_command()), html_path)
    limited = choices["verify_nodes"] or any(choices[name] is not None for name in LIMITS)
    sys.exit(complain(objectives, bool(limited)))


def _task(source: str, choices: dict[str, Any]) -> FleetWork:
    from engine.config import NEWEST
    from harness.fleet.scenario import RECORDED, Scenario, scenarios
    from harness.fleet.spread import FleetWork
    from harness.fleet.stage import FleetSettings
    from harness.log.window import Window

    if source == "-":
        raise click.UsageError("standard input can be read by one process only; save it to a file first")
    source = source if "://" in source else os.path.abspath(source)
    recorded = Scenario(RECORDED, duration(choices["min_sync_period"]))
    try:
        varied = scenarios(recorded, choices["what_if"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--what-if") from None
    settings = FleetSettings(choices["mode"], networks(choices["cluster_cidr"]), choices["kube_version"] or NEWEST)
    window = Window(until=position_or_none(choices["until"]))
    return FleetWork(source, window, settings, varied, lambda names: selected(choices["nodes"], names, "--nodes"))


def selected(text: str, names: Sequence[str], option: str) -> list[str]:
    """All nodes, a number of them evenly spaced, or those that match a pattern; BadParameter if none does."""
    from harness.fleet.check import spaced

    if text == "all":
        return list(names)
    if text.isascii() and text.isdigit() and int(text):
        if int(text) > len(names):
            raise click.BadParameter(f"{text} of {len(names)} nodes: the recording has no more", param_hint=option)
        return spaced(names, int(text))
    if found := fnmatch.filter(names, text):
        return found
    raise click.BadParameter(f"{text!r} matches none of {len(names)} nodes, such as {names[0]}", param_hint=option)


def computed(task: FleetWork, workers: int | None, scheduler: str | None) -> Done:
    """Compute all views, on workers or a scheduler; ends the command if an in-memory kernel rejects a program."""
    from engine.kernel.interface import KernelError
    from harness.fleet import spread

    if workers is not None and scheduler:
        raise click.UsageError("--workers are those of this machine, --scheduler has its own")
    with Progress("starting") as progress, contextlib.ExitStack() as stack:

        def report(step: str, number: int, total: int) -> None:
            if step != seen[0]:
                seen[0] = step
                progress.step(step, total or None)
            progress.done(number)

        seen = [""]
        try:
            if workers == 0:
                done = spread.in_this_process(task, report)
            else:
                client = stack.enter_context(
                    spread.remote_client(scheduler) if scheduler else spread.local_client(workers or spread.cores())
                )
                done = spread.spread(task, client, report)
        except KernelError as error:
            raise Ending(str(error), EXIT_FAILED) from None
    spread.complete(done)
    return done


def _samples(done: Done, task: FleetWork, choices: dict[str, Any]) -> list[SampledNode]:
    from harness.fleet.check import Replays, sampled, spaced

    digests = {each.node: each.digest for each in done.shares[0].nodes}
    replays = Replays(task.source, task.settings, task.scenarios[0].min_sync_period, choices["until"])
    plan = [(node, "memory") for node in spaced(done.nodes, choices["sample"])]
    if choices["verify_nodes"]:
        plan += [(node, "netns") for node in selected(choices["verify_nodes"], done.nodes, "--verify-nodes")]
    with Progress("replaying the sample", len(plan)) as progress:
        found = []
        for number, (node, kernel) in enumerate(plan):
            progress.done(number)
            found.append(sampled(node, kernel, digests[node], replays.run(node, kernel)))
    return found


def _show(result: FleetResult, json_path: str | None) -> None:
    from rich.console import Console

    from harness.fleet.terminal import print_answer

    print_answer(result, Console(stderr=json_path == "-", quiet=wanted().quiet))
    write_json(result, json_path)


__all__ = ["EXIT_INPUT", "computed", "fleet", "selected", "spreading"]
