"""`harness chaos`: experiments on a lab under load, and their verdicts."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import click

from harness.cli.cluster_options import cluster_options, dry_run, heal_folder, kube_options
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
      harness chaos run pod-terminate --target kube --namespace shop --service web
                                                          a real cluster: dry run; --really does it
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
@cluster_options
def plan(file: str, seed: int | None, mode: str | None, as_json: bool, cluster: dict) -> None:
    """Print what a run of the experiment FILE would do: same seed, same plan.

    With --target kube: on the cluster as it is now, with every call to its API and whether the rights
    are there.  Nothing is changed.

    Exit codes: 0; 2 it cannot be planned or would be refused, and why.
    """
    import msgspec

    options = kube_options(cluster, mode=mode, json=as_json)
    if options:
        _dry_run(file, seed, options)
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
@click.option("--really", is_flag=True, help="With --target kube: do it; without it is a dry run.")
@cluster_options
def run(
    file: str,
    seed: int | None,
    mode: str | None,
    out: str | None,
    lab: str | None,
    web_ui: bool,
    really: bool,
    cluster: dict,
) -> None:
    """Run the experiment FILE, or one of the library, and judge it.

    A lab is started for it, locust drives traffic from outside and inside, the faults come one after the
    other, each healed before the next.  The run's folder then holds the report (report.html, report.md,
    junit.xml), the verdict, the load logs, and the lab's recording, which replays.

    With --target kube it is the cluster of your kubeconfig, and nothing but a dry run unless you say
    --really and name the --context.  Only pods of the --namespace(s) are disturbed, within
    --max-pods-percent and --max-nodes; what it cordons, scales or patches is put back on every exit,
    after a kill -9 by `harness chaos heal FOLDER`.

    \b
      harness chaos run pod-terminate --target kube -n shop --service web
      harness chaos run pod-terminate --target kube -n shop --service web --context staging --really

    Exit codes: 0 the verdict is true (or the dry run found nothing in the way); 1 it is false; 2 the
    experiment cannot be run, or is refused; 3 it is unknown; 130 and 143 interrupted, with everything healed
    and ended.
    """
    from chaos.runner import run_experiment, signals_seen

    options = kube_options(cluster, really, mode=mode, lab=lab, web_ui=web_ui)
    if options and not really:
        _dry_run(file, seed, options)
    try:
        experiment = _read(file, seed) if options else _planned(file, seed, mode)[0]
    except ValueError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_USAGE)
    name, where = Path(experiment.path).stem, "kube" if options else experiment.lab.mode
    folder = Path(out or f"chaos-{name}-{where}").absolute()
    began = time.monotonic()
    try:
        with signals_seen() as signals:
            verdict = run_experiment(experiment, folder, Path(lab).absolute() if lab else None, web_ui, options)
    except KeyboardInterrupt:
        sys.exit(EXIT_SIGNAL + signal.SIGINT)
    if options and not signals and not (folder / "run.json").exists():
        sys.exit(EXIT_USAGE)  # it was told why nothing began
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


@chaos.command("heal")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--kubeconfig", type=click.Path(exists=True, dir_okay=False), help="Instead of the run's.")
@click.option("--context", help="Instead of the run's; it must be the same cluster.")
@click.option("--in-cluster", is_flag=True, help="Use the service account of the pod this runs in.")
def heal(folder: Path, **options) -> None:
    """Put back what a run with --target kube left changed, when it was killed before it could.

    FOLDER is the run's: its heal.jsonl says what was before each change.  Twice does no harm.

    Example: harness chaos heal chaos-node-drain-kube

    Exit codes: 0 everything is as it was; 1 something could not be put back; 2 no such run, or another
    cluster.
    """
    try:
        failed = heal_folder(folder, options)
    except ValueError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_USAGE)
    for line in failed:
        click.echo(line, err=True)
    sys.exit(EXIT_FALSE if failed else 0)


def _dry_run(file: str, seed: int | None, options) -> None:
    """Does not return."""
    try:
        clear = dry_run(_read(file, seed), options, click.echo)
    except ValueError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_USAGE)
    click.echo("DRY RUN: nothing was changed" + ("; `harness chaos run ... --really` does it" if clear else ""))
    sys.exit(0 if clear else EXIT_USAGE)


def _read(file: str, seed: int | None):
    from chaos.experiment import find, load_experiment

    experiment = load_experiment(find(file))
    return experiment if seed is None else experiment._replace(seed=seed)


def _planned(file: str, seed: int | None, mode: str | None):
    """The experiment with its overrides, and its plan; ValueError when there is none."""
    import msgspec

    from chaos.experiment import plan_of, predicted

    experiment = _read(file, seed)
    if mode:
        experiment = experiment._replace(lab=msgspec.structs.replace(experiment.lab, mode=mode))
    return experiment, plan_of(experiment, predicted(experiment.lab), experiment.seed)
