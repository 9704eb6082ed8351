"""The Chaos Toolkit control of our experiments: begins the session before an experiment and ends it afterwards.

    controls:
      - name: kube-proxy-harness
        provider: {type: python, module: chaos.control}

Options come from Chaos Toolkit's configuration (`chaos.runner`); when its own `chaos run` runs the experiment, from
environment variables (`chaos.options`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
from chaoslib.exceptions import InterruptExecution

from chaos import session
from chaos.experiment import Experiment, ExperimentError, read_experiment
from chaos.judge import judge_folder
from chaos.options import KEY, RunOptions, from_variables
from chaos.targets.lab_stage import LabStage, attached
from chaos.verdict.end_reason import write_reason
from harness.lab.control import LabError

HIDDEN = ("engines_healthy", "kernels_up_to_date")
"""Probes that a cluster's API cannot answer."""


def before_experiment_control(context: dict[str, Any], configuration: dict[str, Any], **_: Any) -> None:
    """Begin the session and put it into `configuration`; without lab or load the experiment does not run."""
    options = _options(configuration)
    try:
        experiment = _experiment(context, options)
        seed = experiment.seed if options.seed is None else options.seed
        run = session.ChaosSession(experiment, seed, options.folder, _tell, _stage(context, options))
        _interrupt_once(options.folder)
        run.begin()
    except (ExperimentError, LabError, session.SessionError, ValueError) as error:
        write_reason(options.folder, f"it could not begin: {error}")
        raise InterruptExecution(str(error)) from error
    configuration[session.KEY] = run
    options.began(run)


def _options(configuration: dict[str, Any]) -> RunOptions:
    given = configuration.get(KEY)
    if isinstance(given, RunOptions):
        return given
    try:
        return from_variables(os.environ)
    except ValueError as error:
        raise InterruptExecution(f"an environment variable CHAOS_... is invalid: {error}") from None


def _experiment(context: dict[str, Any], options: RunOptions) -> Experiment:
    """The experiment in the mode and with the proxy of the options, or adapted to the running lab."""
    experiment = read_experiment(context, options.path)
    if options.lab:
        return attached(experiment, options.lab, options.mode)
    lab = msgspec.structs.replace(experiment.lab, mode=options.mode or experiment.lab.mode)
    return experiment._replace(lab=msgspec.structs.replace(lab, external=options.external))


def _stage(context: dict[str, Any], options: RunOptions) -> session.ChaosStage:
    """The lab or the cluster of the options; for a cluster, unsupported probes are removed."""
    from chaos.targets.kube.stage import KubeStage

    if not options.kube:
        return LabStage(options.lab, options.web_ui)
    hypothesis = context.get("steady-state-hypothesis") or {}
    asked = hypothesis.get("probes") or []
    hidden = [probe for probe in asked if probe["provider"].get("func") in HIDDEN]
    hypothesis["probes"] = [probe for probe in asked if probe not in hidden]
    for probe in hidden:
        _tell(f"probe skipped, as a cluster's API does not show it: {probe['name']}")
    return KubeStage(options.kube)


def _interrupt_once(folder: Path) -> None:
    """SIGTERM ends a run like SIGINT, by healing; a second signal does not interrupt the healing.

    Chaos Toolkit's own handler raises an exception that it then treats as a failed activity, and continues.
    """

    def interrupt(received: int, _frame: Any) -> None:
        write_reason(folder, f"interrupted by {signal.Signals(received).name}")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        _tell("ending: healing all faults first (kill -9 would leave them in force)")
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, interrupt)


def after_experiment_control(
    context: dict[str, Any], configuration: dict[str, Any], state: dict[str, Any] | None = None, **_: Any
) -> None:
    """End the session and write its facts; with Chaos Toolkit's own command, compute the verdict too."""
    try:
        run = session.session_of(configuration)
        # A hypothesis that is not met, or whose probe fails, ends a run early only before the method.
        finished = state is not None and state.get("status") in ("completed", "failed")
        run.end(finished, journal=state or {})
        if _options(configuration).judges:
            _tell(judge_folder(run.folder).summary().splitlines()[0])
    except session.SessionError:
        return  # it never began
    except Exception as error:  # reported and raised
        _tell(f"the run could not be ended: {error!r}")  # Chaos Toolkit does not report it
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _tell(line: str) -> None:
    away = "\r\x1b[K" if sys.stderr.isatty() else ""  # clears a progress line
    print(f"{away}{line}", file=sys.stderr, flush=True)
