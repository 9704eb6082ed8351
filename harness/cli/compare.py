"""`harness compare`: one recording in several modes, one table."""

from __future__ import annotations

import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import click

from harness.cli.output import write_json
from harness.cli.replay import EXIT_GATE, EXIT_INPUT, EXIT_KERNEL, EXIT_UNVERIFIED, duration, position
from harness.modes import MODES

EXAMPLES = """\b
Examples:
  harness compare recordings/demo.jsonl
  harness compare dump.json --modes nftables,userspace --json compared.json
  harness compare recordings/10k-svc.jsonl --modes iptables,ipvs,nftables --kernel uml --until 60s
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.option("--modes", default="iptables,ipvs,nftables", show_default=True, help=f"Some of {', '.join(MODES)}.")
@click.option(
    "--kernel",
    type=click.Choice(["auto", "netns", "uml", "memory"]),
    default="auto",
    show_default=True,
    help="As for replay; uml runs every mode in the same kind of kernel.",
)
@click.option("--iptables-variant", type=click.Choice(["legacy", "nft"]), help="As for replay, of its own mode alone.")
@click.option("--from", "start", help="Measure from this seq, or time (90s); what is before is folded.")
@click.option("--until", help="Stop after this seq, or time (5m).")
@click.option("--min-sync-period", default="1s", show_default=True, help="Least time between two syncs.")
@click.option("--node", help="Whose view to take; the first Node of the recording by default.")
@click.option("--cluster-cidr", help="Pod CIDRs, one a family, where the recording does not say.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Hold each kernel against the oracle.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write all of it here too (- for stdout).")
@click.option("--max-p99", type=float, help="Gate: exit 4 if a mode's p99 convergence exceeds these seconds.")
@click.option("--max-initial", type=float, help="Gate: exit 4 if a mode's initial convergence exceeds these seconds.")
def compare(source: str, modes: str, json_path: str | None, **choices) -> None:
    """Replay SOURCE in each mode and print one table, and where the modes behave differently on it.

    Every mode is a `harness replay` in a process of its own, one after the other, so that memory is
    each one's own.  A mode whose kernel is not to be had here is told with the reason; ipvs runs in
    user-mode Linux where the kernel lacks it, and the table says so: seconds of different kernels do
    not compare.

    Exit codes: 0 fine; 2 bad input; else that of the first of these that is so: 5 a kernel does not
    hold what the events say; 1 a mode is not to be had, or its kernel refused; 4 a figure over its gate.
    """
    if json_path and json_path != "-" and not Path(json_path).parent.is_dir():
        raise click.UsageError(f"{json_path}: there is no folder {Path(json_path).parent}")
    chosen = _modes(modes)
    variant = choices.pop("iptables_variant")
    if variant and ("iptables" not in chosen or choices["kernel"] == "memory"):
        raise click.UsageError("--iptables-variant is for mode iptables in a real kernel")
    options = _replay_options(choices)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with _readable_again(source) as path:
            runs = _run_all(path, chosen, options, {"iptables": ["--iptables-variant", variant] if variant else []})
            comparison = {
                "source": source,
                "modes": [run.as_json() for run in runs],
                "differences": [row.as_json() for row in _differences(path, chosen, choices)],
            }
    except KeyboardInterrupt:
        click.echo("interrupted; nothing is left behind", err=True)
        sys.exit(130)
    _show(comparison, json_path)
    sys.exit(_exit_code([run.exit_code for run in runs]))


def _modes(text: str) -> list[str]:
    chosen = list(dict.fromkeys(mode.strip() for mode in text.split(",") if mode.strip()))
    unknown = [mode for mode in chosen if mode not in MODES]
    if unknown or not chosen:
        wrong = f"{unknown[0]!r} is no mode" if unknown else "a mode is needed"
        raise click.BadParameter(f"{wrong}; there are {', '.join(MODES)}", param_hint="--modes")
    return chosen


def _replay_options(choices: dict) -> list[str]:
    """The same choices in the words of `harness replay`; what cannot be right is refused here, once."""
    duration(choices["min_sync_period"])
    position(choices["start"]), position(choices["until"])
    names = {"start": "--from"}
    options = [] if choices["verify"] else ["--no-verify"]
    for name, value in choices.items():
        if name != "verify" and value is not None:
            options += [names.get(name, f"--{name.replace('_', '-')}"), str(value)]
    return options


@contextmanager
def _readable_again(source: str):
    """Standard input can be read once only: it is kept in a file for the while."""
    if source != "-":
        yield source
        return
    with tempfile.NamedTemporaryFile(prefix="harness-compare-") as kept:
        kept.write(sys.stdin.buffer.read())
        kept.flush()
        yield kept.name


def _run_all(path: str, modes: list[str], options: list[str], of_mode: dict[str, list[str]]) -> list:
    from rich.console import Console

    from harness.compare import run_mode

    console = Console(stderr=True)
    runs = []
    for number, mode in enumerate(modes, 1):
        with console.status(f"replaying in mode {mode} ({number} of {len(modes)})"):
            run = run_mode(path, mode, [*options, *of_mode.get(mode, ())])
        if run.exit_code == EXIT_INPUT:
            click.echo(f"error: {run.reason}", err=True)
            sys.exit(EXIT_INPUT)
        runs.append(run)
    return runs


def _differences(path: str, modes: list[str], choices: dict) -> list:
    from harness.compare.meanings import meanings
    from harness.replay.schedule import Window

    return meanings(path, modes, choices["node"], choices["cluster_cidr"], Window(until=position(choices["until"])))


def _show(comparison: dict, json_path: str | None) -> None:
    from rich.console import Console

    from harness.report.comparison import print_comparison

    to_error = json_path == "-"
    stream = sys.stderr if to_error else sys.stdout
    # Nothing wraps where there is no terminal whose width counts.
    print_comparison(comparison, Console(stderr=to_error, width=None if stream.isatty() else 240))
    write_json(comparison, json_path)


def _exit_code(codes: list[int]) -> int:
    """The gravest of them."""
    return next((code for code in (EXIT_UNVERIFIED, EXIT_KERNEL, EXIT_GATE) if code in codes), max(codes))
