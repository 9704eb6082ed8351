"""`harness compare`: one recording in several modes, compared in one table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import msgspec

from harness.cli.endings import Ending
from harness.cli.external import ExternalComparison, external_options, proxies_of
from harness.cli.kube_version import KubeVersions, Versions, kube_version, written
from harness.cli.options import duration, gates, verifying
from harness.cli.output import OutputPath, output_format, this_command, write_json, write_text
from harness.cli.position import position_or_none
from harness.cli.progress import Progress
from harness.cli.results import compare_results, gate_code, measured, saved
from harness.cli.value_completion import nodes
from harness.cli.verbosity import asked
from harness.cli.vm import KernelChoice, folder_of, run_in_vm_if_needed
from harness.exit_codes import EXIT_FAILED, EXIT_GATE, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_UNKNOWN, EXIT_UNVERIFIED
from harness.modes import MODES, mode_of
from harness.temporary import temporary_folder

if TYPE_CHECKING:
    from rich.console import Console

    from harness.judge.oracle.differences import Difference
    from harness.log.window import Window
    from harness.replay.compare.result import Comparison, ModeRun

Version = tuple[int, int]
EXAMPLES = """\b
Examples:
  harness compare recordings/demo.jsonl
  harness compare dump.json --modes nftables,userspace --json compared.json
  harness compare dump.json --modes nftables --kube-versions 1.30,1.35,1.37
  harness compare before.json after.json                        # results of replay --json or compare --json
  harness compare gate-monday/ gate-tuesday/                    # the folders of two chaos runs
  harness compare recordings/demo.jsonl --baseline before.json --max-worse 20
  harness compare recordings/10k-svc.jsonl --modes iptables,ipvs,nftables --kernel vm --until 60s
  harness compare recordings/demo.jsonl --external kp='kube-proxy --config={config}'
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE | RESULT RESULT")
@click.option(
    "--modes", default="iptables,ipvs,nftables", show_default=True, help=f"Comma-separated: {', '.join(MODES)}."
)
@click.option(
    "--kernel",
    type=KernelChoice("auto", "netns", "vm", "memory"),
    default="auto",
    show_default=True,
    help="As for replay; vm runs all modes in the same virtual machine.",
)
@click.option(
    "--iptables-variant", type=click.Choice(["legacy", "nft"]), help="As for replay; applies to mode iptables only."
)
@click.option(
    "--from", "start", help="Measure from this seq or time (90s); earlier events are applied but not measured."
)
@click.option("--until", help="Stop after this seq or time (5m).")
@click.option("--min-sync-period", default="1s", show_default=True, help="Minimum time between two syncs.")
@click.option(
    "--node", shell_complete=nodes, help="Node whose rules to compute; by default the recording's first Node."
)
@kube_version
@click.option(
    "--kube-versions",
    type=KubeVersions(),
    metavar="VERSIONS",
    help="Instead of replaying, show what an upgrade changes: two or more versions, such as 1.30,1.35,1.37.",
)
@click.option("--cluster-cidr", help="Pod CIDRs, one per family, if the recording has none.")
@verifying
@output_format
@click.option(
    "--json", "json_path", type=OutputPath(), help="Also write the full comparison to this file (- for stdout)."
)
@click.option("--html", "html_path", type=OutputPath(), help="Also write a self-contained HTML page with charts.")
@click.option("--baseline", type=click.Path(), help="Compare the figures with a previously saved result.")
@click.option(
    "--max-worse",
    type=click.FloatRange(0),
    metavar="PERCENT",
    help="Gate: exit 4 if a figure for which less is better has grown by more than this.",
)
@external_options
@gates
def compare(
    sources: tuple[str, ...],
    modes: str,
    json_path: str | None,
    html_path: str | None,
    kube_versions: Versions | None,
    baseline: str | None,
    max_worse: float | None,
    external: tuple[str, ...],
    give_up: str,
    **choices: Any,
) -> None:
    """Compare proxy modes, or two results, in one table.

    SOURCE is replayed in each mode; the table also lists where the modes behave differently on it.

    Each mode is replayed in its own process, one after another, so that memory is measured per mode.
    A mode whose kernel is not available has no figures, and the output gives the reason.  If this kernel
    lacks ipvs, that mode runs in a virtual machine and the table marks it, since times measured on
    different kernels are not comparable.

    Two RESULTs are compared figure by figure instead: files written by replay --json or compare --json,
    or folders of chaos runs.

    With --external, another program that watches a cluster is measured from outside, beside the engine run
    as a process in exactly the same way; see docs/external.md.

    With --kube-versions nothing is replayed: the oracle lists the Services, node ports and packets that
    each version of kube-proxy would treat differently, in the state at the end of SOURCE.

    Exit codes: 0 success; 2 bad input; otherwise the first of these that applies: 5 a kernel does not
    match the events; 1 a mode's kernel is not available or rejected the rules; 4 a figure exceeds its
    gate; 6 unknown: a gate had nothing to measure, or nothing could be verified.
    """
    _check(sources, baseline, max_worse)
    if len(sources) == 2:
        console, outputs = _console(json_path), (json_path, html_path)
        sys.exit(gate_code(compare_results(saved(sources[0]), saved(sources[1]), console, outputs), max_worse))
    before = saved(baseline) if baseline else None
    source = sources[0]
    chosen = _modes(modes)
    proxies = proxies_of(external, kube_versions=kube_versions, kernel=choices["kernel"])
    variant = choices.pop("iptables_variant")
    if variant and (not any(variant in mode_of(mode).variants for mode in chosen) or choices["kernel"] == "memory"):
        raise click.UsageError("--iptables-variant applies only to mode iptables in a real kernel")
    if kube_versions:
        sys.exit(_compare_versions(source, chosen, kube_versions, choices, json_path, html_path))
    version = choices.pop("kube_version")
    options = [*_replay_options(choices), *(["--kube-version", written(version)] if version else [])]
    if choices["kernel"] != "auto":  # with auto, each mode decides for itself
        run_in_vm_if_needed(choices["kernel"], chosen[0], [source], map(folder_of, (json_path, html_path)))
    outside = ExternalComparison(proxies, variant, duration(give_up), choices, version) if proxies else None
    comparison = _compared(source, chosen, options, variant, choices, version, outside)
    _show(comparison, json_path, html_path)
    code = _exit_code([run.exit_code for run in [*comparison.modes, *(comparison.external or ())]])
    if before and code != EXIT_INTERRUPTED:
        found = compare_results(before, measured(comparison.modes), _console(json_path), (None, None))
        code = code or gate_code(found, max_worse)
    sys.exit(code)


def _check(sources: tuple[str, ...], baseline: str | None, max_worse: float | None) -> None:
    if len(sources) > 2 or (len(sources) == 2 and baseline):
        raise click.UsageError("give one SOURCE or two results")
    if max_worse is not None and len(sources) == 1 and not baseline:
        raise click.UsageError("--max-worse needs --baseline or two results")


def _compared(
    source: str,
    chosen: list[str],
    options: list[str],
    variant: str | None,
    choices: dict[str, Any],
    version: Version | None,
    outside: ExternalComparison | None = None,
) -> Comparison:
    """The comparison; after an interruption, with the modes completed so far."""
    from harness.replay.compare.result import Comparison, ModeRun
    from harness.replay.report.comparison import line_of

    runs: list[ModeRun] = []
    comparison = Comparison(source, runs)
    try:
        with _readable_again(source) as path:
            of_mode = {
                mode: ["--iptables-variant", variant]
                for mode in chosen
                if variant and variant in mode_of(mode).variants
            }
            for run in _each_run(path, chosen, options, of_mode):
                runs.append(run)  # appended before it is printed, so that an interruption does not lose it
                if len(chosen) > 1:
                    click.echo(line_of(run), err=True)
            if outside:
                comparison.external = []
                outside.measure(path, chosen, comparison.external)
            comparison.differences = _differences(path, chosen, choices, version)
    except KeyboardInterrupt:
        click.echo("interrupted; nothing is left behind", err=True)
        if not runs:
            sys.exit(EXIT_INTERRUPTED)
        missing = chosen[len(runs) :]
        runs += [ModeRun(mode, EXIT_INTERRUPTED, "interrupted before it finished", None) for mode in missing]
        runs[-1] = msgspec.structs.replace(runs[-1], exit_code=EXIT_INTERRUPTED)
    return comparison


def _modes(text: str) -> list[str]:
    chosen = list(dict.fromkeys(mode.strip() for mode in text.split(",") if mode.strip()))
    unknown = [mode for mode in chosen if mode not in MODES]
    if unknown or not chosen:
        wrong = f"{unknown[0]!r} is not a mode" if unknown else "no mode given"
        raise click.BadParameter(f"{wrong}; choose from {', '.join(MODES)}", param_hint="--modes")
    return chosen


def _replay_options(choices: dict[str, Any]) -> list[str]:
    """The same choices as options of `harness replay`; invalid values are rejected here, once."""
    duration(choices["min_sync_period"])
    position_or_none(choices["start"]), position_or_none(choices["until"])
    names = {"start": "--from"}
    options = ["--whole"]
    for name, value in choices.items():
        if value is not None:
            options += [names.get(name, f"--{name.replace('_', '-')}"), str(value)]
    return options


@contextmanager
def _readable_again(source: str) -> Iterator[str]:
    """A path that can be read repeatedly: standard input is copied to a temporary file."""
    if source != "-":
        yield source
        return
    with temporary_folder("compare") as folder:
        kept = folder / "source"
        kept.write_bytes(sys.stdin.buffer.read())
        yield str(kept)


def _each_run(path: str, modes: list[str], options: list[str], of_mode: dict[str, list[str]]) -> Iterator[ModeRun]:
    """One run per mode."""
    from harness.replay.compare.runs import run_mode

    for number, mode in enumerate(modes, 1):
        with Progress(f"replaying in mode {mode}, {number} of {len(modes)}"):
            run = run_mode(path, mode, [*options, *of_mode.get(mode, ())])
        if run.exit_code == EXIT_INPUT:
            raise Ending(run.reason, EXIT_INPUT)
        yield run


def _differences(
    path: str, modes: list[str], choices: dict[str, Any], version: tuple[int, int] | None
) -> list[Difference]:
    from harness.replay.compare.mode_differences import mode_differences

    with Progress("comparing what the modes mean"):
        return mode_differences(path, modes, choices["node"], choices["cluster_cidr"], _until(choices), version)


def _until(choices: dict[str, Any]) -> Window:
    from harness.log.window import Window

    return Window(until=position_or_none(choices["until"]))


def _compare_versions(
    source: str,
    modes: list[str],
    versions: Versions,
    choices: dict[str, Any],
    json_path: str | None,
    html_path: str | None,
) -> int:
    """Print and write what each version changes; returns 0, or 2 if the input cannot be read."""
    from harness.replay.compare.mode_differences import upgrades
    from harness.replay.compare.result import Upgrade
    from harness.replay.report.comparison import print_upgrade
    from harness.replay.report.page import upgrade_page

    with Progress("reading and comparing versions"):
        rows = upgrades(source, modes, choices["node"], choices["cluster_cidr"], _until(choices), versions)
    comparison = Upgrade(source, modes, [written(version) for version in versions], rows)
    print_upgrade(comparison, _console(json_path))
    write_json(comparison, json_path)
    if html_path:
        write_text(upgrade_page(comparison, this_command()), html_path)
    return 0


def _show(comparison: Comparison, json_path: str | None, html_path: str | None) -> None:
    from harness.replay.report.comparison import print_comparison
    from harness.replay.report.page import comparison_page

    print_comparison(comparison, _console(json_path))
    write_json(comparison, json_path)
    if html_path:
        write_text(comparison_page(comparison, this_command()), html_path)


def _console(json_path: str | None) -> Console:
    """The console for the table; wide enough not to wrap when the output is not a terminal."""
    from rich.console import Console

    to_error = json_path == "-"
    stream = sys.stderr if to_error else sys.stdout
    return Console(stderr=to_error, width=None if stream.isatty() else 240, quiet=asked().quiet)


def _exit_code(codes: list[int]) -> int:
    """The most severe exit code."""
    return next(
        (code for code in (EXIT_INTERRUPTED, EXIT_UNVERIFIED, EXIT_FAILED, EXIT_GATE, EXIT_UNKNOWN) if code in codes),
        max(codes),
    )
