"""`harness chaos`: experiments under load, and their verdicts."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from chaos.cluster_options import cluster_options, dry_run, heal_folder, kube_options
from harness.cli.endings import Ending
from harness.cli.output import output_format, write_json
from harness.cli.progress import Progress
from harness.cli.vm import KernelChoice, run_in_vm_if_needed
from harness.exit_codes import EXIT_FAILED, EXIT_INPUT, EXIT_INTERRUPTED
from harness.extras import missing
from harness.kube.proxy import command
from harness.lab.control import LabError
from harness.modes import MODES
from harness.wording import plural

if TYPE_CHECKING:  # imported late, so that help is quick
    from chaos.experiment import Experiment
    from chaos.plan import Plan
    from chaos.session import ChaosSession
    from chaos.targets.kube.settings import KubeOptions

CODES = {True: 0, False: 1, None: 3}
"""Exit codes of verdicts."""
SIGNALLED = 128
"""The exit code after a signal is this much more than the signal's number."""


def _experiments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the library's experiments, for shell completion."""
    from chaos.experiment import LIBRARY

    return sorted(path.stem for path in LIBRARY.glob("*.yaml") if path.stem.startswith(incomplete))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def chaos() -> None:
    """Inject faults under load on real nodes, and report a verdict.

    Faults include pod failures, probe flaps and node loss, while locust drives traffic through the nodes.

    \b
      harness chaos list                                  list faults and experiments
      harness chaos plan pod-kill --seed 7                show which faults would hit which targets
      harness chaos run pod-kill --mode iptables          lab, load, faults, verdict, report
      harness chaos run release-gate --out gate           run every fault, before a release
      harness chaos report gate                           verdict and reports again from the run's folder
      chaos run chaos/experiments/pod-kill.yaml           the same with Chaos Toolkit's own command
      harness chaos run pod-terminate --target kube --namespace shop --service web
                                                          on a real cluster; a dry run without --really
    """


@chaos.command("list")
@output_format
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List faults with their parameters, and experiments."""
    from chaos.catalogue import catalogue

    found = catalogue()
    if as_json:
        write_json(found, "-")
        return
    click.echo("Faults:")
    for fault in found.faults:
        parameters = ", ".join(f"{name}={value}" for name, value in fault.parameters.items())
        click.echo(f"  {fault.name:<16} {fault.summary}" + (f"\n{'':19}{parameters}" if parameters else ""))
    click.echo("\nExperiments:")
    for experiment in found.experiments:
        click.echo(f"  {experiment.name:<20} {experiment.title}: {', '.join(experiment.faults)}")


@chaos.command("validate")
@click.argument("files", nargs=-1, required=True)
def validate(files: tuple[str, ...]) -> None:
    """Check experiments without running them.

    FILES are paths, or names of experiments in the library.

    Exit codes: 0 all can be run; 2 at least one cannot, and the reason is printed.
    """
    bad = 0
    for name in files:
        try:
            experiment, _ = _planned(name, None, None)
            click.echo(f"{name}: {plural(len(experiment.faults), 'fault')}")
        except ValueError as error:
            click.echo(f"error: {error}", err=True)
            bad = EXIT_INPUT
    sys.exit(bad)


@chaos.command("plan")
@click.argument("file", shell_complete=_experiments)
@click.option("--seed", type=int, help="Override the experiment's seed.")
@click.option("--mode", type=click.Choice(MODES), help="Override the experiment's proxy mode.")
@output_format
@click.option("--json", "as_json", is_flag=True, help="Print JSON with every operation.")
@cluster_options
def plan(file: str, seed: int | None, mode: str | None, as_json: bool, cluster: dict[str, Any]) -> None:
    """Print what a run of the experiment FILE would do.

    The same seed gives the same plan.  With --target kube, the plan is for the cluster as it is now, and
    lists every API call and whether it is authorized.  Nothing is changed.

    Exit codes: 0 success; 2 it cannot be planned or would be refused, and the reason is printed.
    """

    options = kube_options(cluster, mode=mode, json=as_json)
    if options:
        _dry_run(file, seed, options)
    with refusals():
        _, made = _planned(file, seed, mode)
    if as_json:
        write_json(made, "-")
        return
    click.echo(
        f"seed {made.seed}, mode {made.cluster.mode}, {plural(len(made.cluster.pods), 'pod')}"
        f" on {plural(len(made.cluster.nodes), 'node')}"
    )
    for step in made.steps:
        whom = ", ".join(step.nodes or step.pods) or "the cluster"
        parameters = ", ".join(f"{k}={v}" for k, v in step.parameters.items() if v is not None)
        click.echo(
            f"{step.number:>3}. {step.fault:<16} {step.seconds:>5g} s  {whom}"
            + (f"  ({parameters})" if parameters else "")
        )


@chaos.command("run")
@click.argument("file", shell_complete=_experiments)
@click.option("--seed", type=int, help="Override the experiment's seed.")
@click.option("--mode", type=click.Choice(MODES), help="Override the experiment's proxy mode.")
@click.option("--out", type=click.Path(file_okay=False), help="Folder for the run; chaos-NAME-MODE by default.")
@click.option(
    "--lab", type=click.Path(file_okay=False), help="Use the running lab with this folder, and leave it running."
)
@click.option(
    "--kernel",
    type=KernelChoice("netns", "vm"),
    default="netns",
    show_default=True,
    help="The lab's kernel: this one, or another in a virtual machine (docs/kernels.md).",
)
@click.option(
    "--external",
    metavar="COMMAND",
    help="Run this proxy on the lab's nodes instead of the engine; see `harness compare --help`.",
)
@click.option("--web-ui", is_flag=True, help="Serve locust's web UI in the lab during the run (see `lab forward`).")
@click.option("--really", is_flag=True, help="With --target kube: execute the run instead of a dry run.")
@cluster_options
def run(
    file: str,
    seed: int | None,
    mode: str | None,
    out: str | None,
    lab: str | None,
    kernel: str,
    external: str | None,
    web_ui: bool,
    really: bool,
    cluster: dict[str, Any],
) -> None:
    """Run the experiment FILE, or one of the library, and judge it.

    A lab is started, locust drives traffic from outside and inside, and the faults are injected one after
    another, each healed before the next.  The run's folder then holds the report (report.html, report.md,
    junit.xml), the verdict, the load logs, and the lab's recording, which can be replayed.

    With --target kube the run is on the cluster of your kubeconfig: a dry run unless --really and --context
    are given.  Only pods of the --namespace(s) are disturbed, within --max-pods-percent and --max-nodes.  All
    changes are reverted on every exit; after a kill -9, by `harness chaos heal FOLDER`.

    \b
      harness chaos run pod-terminate --target kube -n shop --service web
      harness chaos run pod-terminate --target kube -n shop --service web --context staging --really

    Exit codes: 0 the verdict is true (or the dry run found no obstacle); 1 it is false; 2 the experiment
    cannot be run, or is refused; 3 the verdict is unknown; 130, 143 interrupted, with all faults healed.
    """
    from chaos.options import RunOptions
    from chaos.runner import run_experiment, signals_seen

    options = kube_options(cluster, really, mode=mode, lab=lab, web_ui=web_ui, external=external)
    _require_own_lab(kernel, external, lab, bool(options or lab or web_ui))
    if options and not really:
        _dry_run(file, seed, options)
    with refusals():
        experiment = _read(file, seed) if options else _loaded(file, seed, mode, lab, external)
    name, where = Path(experiment.path).stem, "kube" if options else experiment.lab.mode
    folder = Path(out or f"chaos-{name}-{where}").absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    run_in_vm_if_needed(kernel, experiment.lab.mode, [], [str(folder.parent)])
    began, live = time.monotonic(), _Live(folder)
    where_to = Path(lab).absolute() if lab else None
    how = RunOptions(folder=folder, lab=where_to, kube=options, web_ui=web_ui, began=live.began)
    try:
        with signals_seen() as signals, Progress("running the experiment", detail=live.line):
            verdict = run_experiment(experiment, how)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    if options and not signals and not (folder / "run.json").exists():
        sys.exit(EXIT_INPUT)  # the reason has been printed
    click.echo(verdict.summary())
    click.echo(f"{time.monotonic() - began:.0f} s; report: {os.path.relpath(folder / 'report.html')}")
    if signals:
        click.echo("interrupted; all faults are healed and everything is stopped", err=True)
        sys.exit(SIGNALLED + signals[0])
    sys.exit(CODES[verdict.value])


def _require_own_lab(kernel: str, external: str | None, lab: str | None, elsewhere: bool) -> None:
    """UsageError for options that require a lab started by the run itself."""
    if external and lab:
        raise click.UsageError("--external needs a lab started by the run: a running lab already has its proxies")
    if kernel != "netns" and elsewhere:
        raise click.UsageError("--kernel vm needs the run's own lab: it excludes --target kube, --lab and --web-ui")


class _Live:
    """Text for the progress line: the number of completed faults, and the state of the load."""

    def __init__(self, folder: Path) -> None:
        from chaos.live import LiveLoad

        self._load = LiveLoad(folder / "load", time.monotonic_ns())
        self._session: ChaosSession | None = None

    def began(self, session: ChaosSession) -> None:
        """The run has begun."""
        self._session = session

    def line(self) -> str:
        """The current text."""
        if self._session is None or self._session.ended:
            return "starting or ending"
        done, planned = self._session.share_done
        return ", ".join(filter(None, (f"{done} of {plural(planned, 'fault')} done", self._load.line())))


@chaos.command("report")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(folder: Path) -> None:
    """Judge a finished run again and rewrite its reports.

    Nothing is run: verdict.json, report.html, report.md and junit.xml in FOLDER are generated from the
    run's data (run.json, load/*.jsonl, events.jsonl); the same data gives the same bytes.

    \b
      harness chaos report gate
      harness chaos report gate >/dev/null && cat gate/report.md      for a pull request

    Exit codes: 0 the verdict is true; 1 it is false; 2 FOLDER does not hold a run; 3 it is unknown.
    """
    from chaos.judge import judge_folder
    from chaos.session import RUN
    from chaos.verdict.journal import JOURNAL

    if not any((folder / name).exists() for name in (RUN, JOURNAL)):
        raise Ending(f"{folder}: not the folder of a run: it contains neither {RUN} nor {JOURNAL}", EXIT_INPUT)
    verdict = judge_folder(folder)
    click.echo(verdict.summary())
    click.echo(f"report: {os.path.relpath(folder / 'report.html')}")
    sys.exit(CODES[verdict.value])


@chaos.command("heal")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--kubeconfig", type=click.Path(exists=True, dir_okay=False), help="Use this kubeconfig instead of the run's."
)
@click.option("--context", help="Use this context instead of the run's; it must be the same cluster.")
@click.option("--in-cluster", is_flag=True, help="Use the service account of the pod this runs in.")
def heal(folder: Path, **options: Any) -> None:
    """Undo what a killed --target kube run left changed.

    FOLDER is the run's folder, whose heal.jsonl records the state before each change.  It is safe to run twice.

    Example: harness chaos heal chaos-node-drain-kube

    Exit codes: 0 everything is restored; 1 something could not be restored; 2 no such run, or a different
    cluster.
    """
    with refusals():
        failed = heal_folder(folder, options)
    for line in failed:
        click.echo(line, err=True)
    sys.exit(EXIT_FAILED if failed else 0)


@contextmanager
def refusals() -> Iterator[None]:
    """Input that cannot be read or planned, and targets that cannot be reached, end the command with 2."""
    try:
        yield
    except (ValueError, LabError) as error:
        raise Ending(str(error), EXIT_INPUT) from None


def _dry_run(file: str, seed: int | None, options: KubeOptions) -> NoReturn:
    """Print the dry run and exit."""
    with refusals():
        clear = dry_run(_read(file, seed), options, click.echo)
    click.echo("DRY RUN: nothing was changed" + ("; `harness chaos run ... --really` does it" if clear else ""))
    sys.exit(0 if clear else EXIT_INPUT)


def _read(file: str, seed: int | None) -> Experiment:
    from chaos.experiment import find, load_experiment

    experiment = load_experiment(find(file))
    return experiment if seed is None else experiment._replace(seed=seed)


def _loaded(file: str, seed: int | None, mode: str | None, lab: str | None, external: str | None) -> Experiment:
    """The experiment with its overrides; ValueError if it does not exist or locust is not installed."""
    import msgspec

    if said := missing("locust"):
        raise ValueError(said)
    experiment = _planned(file, seed, mode, lab)[0]
    if external:
        words = command("--external", external).words
        experiment = experiment._replace(lab=msgspec.structs.replace(experiment.lab, external=words))
    return experiment


def _planned(file: str, seed: int | None, mode: str | None, lab: str | None = None) -> tuple[Experiment, Plan]:
    """The experiment with its overrides, and its plan; ValueError if it does not exist, LabError if no lab runs."""
    import msgspec

    from chaos.experiment import plan_of, predicted
    from chaos.targets.lab_stage import attached

    experiment = _read(file, seed)
    if lab:
        experiment = attached(experiment, Path(lab).absolute(), mode)
    elif mode:
        experiment = experiment._replace(lab=msgspec.structs.replace(experiment.lab, mode=mode))
    return experiment, plan_of(experiment, predicted(experiment.lab), experiment.seed)
