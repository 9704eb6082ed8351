"""`harness chaos`: experiments on a lab under load, and their verdicts."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import click

from harness.modes import MODES

EXIT_FALSE, EXIT_USAGE, EXIT_UNKNOWN, EXIT_SIGNAL = 1, 2, 3, 128
CODES = {True: 0, False: EXIT_FALSE, None: EXIT_UNKNOWN}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def chaos() -> None:
    """Pod failures, probe flaps and worse while traffic flows through real nodes; then a verdict.

    \b
      harness chaos list                                  faults and experiments
      harness chaos plan pod-kill --seed 7                who would be hit, when, with what
      harness chaos run pod-kill --mode iptables          lab, load, faults, verdict, report
      harness chaos run release-gate --out gate           everything, before a release
      harness chaos report gate                           verdict and reports again, from the run's folder
      chaos run chaos/experiments/pod-kill.yaml           the same by Chaos Toolkit's own command
    """


@chaos.command("list")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def list_(as_json: bool) -> None:
    """The faults there are, with their parameters, and the experiments of the library."""
    from chaos.catalogue import experiments, faults

    found = {"faults": faults(), "experiments": experiments()}
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo("Faults:")
    for fault in found["faults"]:
        parameters = ", ".join(f"{name}={value}" for name, value in fault["parameters"].items())
        click.echo(f"  {fault['name']:<16} {fault['summary']}" + (f"\n{'':19}{parameters}" if parameters else ""))
    click.echo("\nExperiments:")
    for experiment in found["experiments"]:
        click.echo(f"  {experiment['name']:<20} {experiment['title']}: {', '.join(experiment['faults'])}")


@chaos.command("validate")
@click.argument("files", nargs=-1, required=True)
def validate(files: tuple[str, ...]) -> None:
    """Check experiment FILES (or names of the library) without running them.

    Exit codes: 0 all can be run; 2 one cannot, and why.
    """
    bad = 0
    for name in files:
        try:
            experiment, _ = _planned(name, None, None)
            click.echo(f"{name}: {len(experiment.faults)} faults")
        except ValueError as error:
            click.echo(f"error: {error}", err=True)
            bad = EXIT_USAGE
    sys.exit(bad)


@chaos.command("plan")
@click.argument("file")
@click.option("--seed", type=int, help="Another seed than the experiment's.")
@click.option("--mode", type=click.Choice(MODES), help="Another proxy mode than the experiment's.")
@click.option("--json", "as_json", is_flag=True, help="Everything, operation by operation.")
def plan(file: str, seed: int | None, mode: str | None, as_json: bool) -> None:
    """Print what a run of the experiment FILE would do: same seed, same plan.

    Exit codes: 0; 2 it cannot be planned, and why.
    """
    import msgspec

    try:
        _, made = _planned(file, seed, mode)
    except ValueError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_USAGE)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(made), indent=2).decode())
        return
    click.echo(
        f"seed {made.seed}, mode {made.cluster.mode}, {len(made.cluster.pods)} pods on {len(made.cluster.nodes)} nodes"
    )
    for step in made.steps:
        whom = ", ".join(step.nodes or step.pods) or "the cluster"
        parameters = ", ".join(f"{k}={v}" for k, v in step.parameters.items() if v is not None)
        click.echo(
            f"{step.number:>3}. {step.fault:<16} {step.seconds:>5g} s  {whom}"
            + (f"  ({parameters})" if parameters else "")
        )


@chaos.command("run")
@click.argument("file")
@click.option("--seed", type=int, help="Another seed than the experiment's.")
@click.option("--mode", type=click.Choice(MODES), help="Another proxy mode than the experiment's.")
@click.option("--out", type=click.Path(file_okay=False), help="The run's folder; chaos-NAME-MODE by default.")
@click.option("--lab", type=click.Path(file_okay=False), help="Use the lab running in this folder; leave it up.")
@click.option("--web-ui", is_flag=True, help="Serve locust's page in the lab meanwhile; see `harness lab forward`.")
def run(file: str, seed: int | None, mode: str | None, out: str | None, lab: str | None, web_ui: bool) -> None:
    """Run the experiment FILE, or one of the library, and judge it.

    A lab is started for it, locust drives traffic from outside and inside, the faults come one after the
    other, each healed before the next.  The run's folder then holds the report (report.html, report.md,
    junit.xml), the verdict, the load logs, and the lab's recording, which replays.

    Exit codes: 0 the verdict is true; 1 it is false; 2 the experiment cannot be run; 3 it is unknown; 130 and 143
    interrupted, with everything healed and ended.
    """
    from chaos.runner import run_experiment, signals_seen

    try:
        experiment, _ = _planned(file, seed, mode)
    except ValueError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_USAGE)
    name = Path(experiment.path).stem
    folder = Path(out or f"chaos-{name}-{experiment.lab.mode}").absolute()
    began = time.monotonic()
    try:
        with signals_seen() as signals:
            verdict = run_experiment(experiment, folder, Path(lab).absolute() if lab else None, web_ui)
    except KeyboardInterrupt:
        sys.exit(EXIT_SIGNAL + signal.SIGINT)
    click.echo(verdict.summary())
    click.echo(f"{time.monotonic() - began:.0f} s; report: {os.path.relpath(folder / 'report.html')}")
    if signals:
        click.echo("interrupted: what was injected is healed, what was started has ended", err=True)
        sys.exit(EXIT_SIGNAL + signals[0])
    sys.exit(CODES[verdict.value])


@chaos.command("report")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(folder: Path) -> None:
    """Judge the run that left FOLDER again, and write its verdict and reports again.

    Nothing runs: verdict.json, report.html, report.md and junit.xml are made from the facts in the folder
    (run.json, load/*.jsonl, events.jsonl); the same folder gives the same bytes.

    \b
      harness chaos report gate
      harness chaos report gate >/dev/null && cat gate/report.md      for a pull request

    Exit codes: 0 the verdict is true; 1 it is false; 2 FOLDER is no run's; 3 it is unknown.
    """
    from chaos.judged import judge_folder
    from chaos.runner import JOURNAL
    from chaos.session import RUN

    if not any((folder / name).exists() for name in (RUN, JOURNAL)):
        click.echo(f"error: {folder}: no run's folder: neither {RUN} nor {JOURNAL} is in it", err=True)
        sys.exit(EXIT_USAGE)
    verdict = judge_folder(folder)
    click.echo(verdict.summary())
    click.echo(f"report: {os.path.relpath(folder / 'report.html')}")
    sys.exit(CODES[verdict.value])


def _planned(file: str, seed: int | None, mode: str | None):
    """The experiment with its overrides, and its plan; ValueError when there is none."""
    import msgspec

    from chaos.experiment import find, load_experiment, plan_of, predicted

    experiment = load_experiment(find(file))
    if mode:
        experiment = experiment._replace(lab=msgspec.structs.replace(experiment.lab, mode=mode))
    if seed is not None:
        experiment = experiment._replace(seed=seed)
    return experiment, plan_of(experiment, predicted(experiment.lab), experiment.seed)
