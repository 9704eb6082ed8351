"""`harness conformance`: verifies a service proxy against the corpus of cases."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from harness.cli.endings import Ending
from harness.cli.kube_version import kube_version, written
from harness.cli.output import OutputPath, output_format, this_command, write_json, write_text
from harness.cli.progress import Progress
from harness.cli.vm import KernelChoice, folder_of, run_in_vm_if_needed
from harness.exit_codes import EXIT_FAILED, EXIT_INPUT, EXIT_UNVERIFIED
from harness.extras import missing
from harness.kube.proxy import OURS, Command, CommandError, commands

if TYPE_CHECKING:
    from harness.conformance.entry import Entry
    from harness.conformance.result import ConformanceResult
    from harness.conformance.run import ProxyUnderTest
    from harness.conformance.testbed import CaseResult

MODES = ("iptables", "ipvs", "nftables")
EXAMPLES = """\b
Examples:
  harness conformance --mode nftables --junit conformance.xml --html conformance.html
  harness conformance --mode iptables --external kp='kube-proxy --config={config}'
  harness conformance --case TRAF-10 --case HAIR-01
  harness conformance --mode iptables --kube-version 1.35
  harness conformance --fuzz 50 --seed 7
  harness conformance --list
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--mode", type=click.Choice(MODES), default="nftables", show_default=True, help="Proxy mode.")
@click.option("--external", metavar="NAME=COMMAND", help="Test this proxy instead of the engine; see `compare --help`.")
@click.option(
    "--kernel", type=KernelChoice("auto", "netns", "vm"), default="auto", show_default=True, help="As for replay."
)
@click.option("--iptables-variant", type=click.Choice(["legacy", "nft"]), help="The proxy's iptables tools.")
@kube_version
@click.option("--case", "cases", multiple=True, metavar="ID|RULE", help="Run only this case, or this rule's cases.")
@click.option("--list", "listing", is_flag=True, help="List the cases with their rules; run none.")
@click.option("--fuzz", type=click.IntRange(1), metavar="N", help="Run N random clusters, judged by the oracle.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of the first random cluster.")
@output_format
@click.option("--junit", "junit_path", type=OutputPath(), help="Write a JUnit XML report.")
@click.option("--json", "json_path", type=OutputPath(), help="Write the result as JSON (- for stdout).")
@click.option("--html", "html_path", type=OutputPath(), help="Write a self-contained HTML page.")
def conformance(
    mode: str,
    external: str | None,
    kernel: str,
    iptables_variant: str | None,
    kube_version: tuple[int, int] | None,
    cases: tuple[str, ...],
    listing: bool,
    fuzz: int | None,
    seed: int,
    junit_path: str | None,
    json_path: str | None,
    html_path: str | None,
) -> None:
    """Judge a service proxy by real packets in small clusters.

    Each of hundreds of cases is a cluster, packets of both families, and their expected outcomes by a rule of
    docs/kube-proxy.md. The proxy runs as a process in its own network namespace, against an API there;
    docs/conformance.md describes how it is judged.

    Exit codes: 0 every applicable case passed; 1 no kernel with this mode is available; 2 bad options; 5 a case failed.
    """
    from harness.conformance.entry import chosen, corpus
    from harness.conformance.run import Unavailable, require, result_of

    if fuzz and cases:
        raise click.UsageError("--fuzz makes its own cases: give it or --case")
    target = _target(mode, external, iptables_variant, kube_version)
    try:
        entries = chosen(corpus(), cases)
    except LookupError as error:
        raise click.BadParameter(f"{error.args[0]}; --list prints all", param_hint="--case") from None
    if listing:
        for entry in entries:
            click.echo(f"{entry.id}  {' '.join(entry.rules)}  ({', '.join(entry.case.modes)})")
        return
    if not external and (why := missing("kubernetes")):  # which proxy-engine imports
        raise Ending(why, EXIT_INPUT)
    run_in_vm_if_needed(kernel, mode, [], map(folder_of, (junit_path, json_path, html_path)))
    began = time.monotonic()
    try:
        require(mode)
        results = _fuzzed(target, fuzz, seed) if fuzz else _all(target, entries)
    except Unavailable as error:
        raise Ending(str(error), EXIT_FAILED) from None
    _show(result_of(target, results, time.monotonic() - began), junit_path, json_path, html_path)


def _target(mode: str, external: str | None, variant: str | None, version: tuple[int, int] | None) -> ProxyUnderTest:
    from engine.config import NEWEST
    from harness.conformance.run import ProxyUnderTest

    asked = ["--mode", mode]
    command = OURS
    if version:
        asked += ["--kube-version", written(version)]
        command = Command(OURS.name, (*OURS.words, f"--kube-version={written(version)}"))
    if external:
        asked += ["--external", external]
        try:
            (command,) = commands([external])
        except CommandError as error:
            raise click.BadParameter(str(error), param_hint="--external") from None
    if variant:
        asked += ["--iptables-variant", variant]
    return ProxyUnderTest(command, mode, version or NEWEST, variant, tuple(asked))


def _all(target: ProxyUnderTest, entries: list[Entry]) -> list[CaseResult]:
    from harness.conformance.run import run

    tried = sum(not entry.applies(target.mode, target.version) for entry in entries)
    with Progress("running cases", tried) as progress:
        done: list[CaseResult] = []

        def count(result: CaseResult) -> None:
            done.append(result)
            progress.done(len(done))

        return run(target, entries, count)


def _fuzzed(target: ProxyUnderTest, count: int, seed: int) -> list[CaseResult]:
    from harness.conformance.fuzz import fuzz

    now = [""]
    with Progress("running random clusters", count, lambda: now[0]) as progress:
        return fuzz(target, count, seed, progress.done, lambda what: now.__setitem__(0, what))


def _show(run: ConformanceResult, junit_path: str | None, json_path: str | None, html_path: str | None) -> None:
    from rich.console import Console

    from harness.conformance.report import junit, page, print_run

    to_error = json_path == "-"
    stream = sys.stderr if to_error else sys.stdout
    print_run(run, Console(stderr=to_error, width=None if stream.isatty() else 120))
    write_json(run, json_path)
    if junit_path:
        write_text(junit(run).decode(), junit_path)
    if html_path:
        write_text(page(run, this_command()), html_path)
    sys.exit(0 if run.passed else EXIT_UNVERIFIED)
