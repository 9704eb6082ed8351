"""The Chaos Toolkit control of our experiments: begins the session before an experiment and ends it afterwards.

    controls:
      - name: kube-proxy-harness
        provider: {type: python, module: chaos.control}

Options are read from the environment, as `chaos run` has none for them: CHAOS_SEED, CHAOS_MODE, CHAOS_OUT (the run's
folder), CHAOS_LAB (a running lab's folder), CHAOS_WEB_UI (1: locust's page in each load's namespace), CHAOS_KUBE
(a real cluster instead of a lab: `chaos.targets.kube.settings.KubeOptions` as JSON).
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
from chaos.experiment import ExperimentError, read_experiment
from chaos.judged import judge_folder
from chaos.targets.lab_stage import LabStage, attached
from chaos.verdict.ended import write_reason
from harness.lab.control import LabError

SEED, MODE, OUT, LAB = "CHAOS_SEED", "CHAOS_MODE", "CHAOS_OUT", "CHAOS_LAB"
PATH, WEB_UI, KUBE = "CHAOS_EXPERIMENT", "CHAOS_WEB_UI", "CHAOS_KUBE"
HIDDEN = ("engines_healthy", "kernels_up_to_date")
"""Probes that a cluster's API cannot answer."""


def before_experiment_control(context: dict[str, Any], **_: Any) -> None:
    """Begin the session; without lab or load the experiment does not run."""
    try:
        experiment = read_experiment(context, os.environ.get(PATH, "experiment"))
        if os.environ.get(LAB):
            experiment = attached(experiment, Path(os.environ[LAB]), os.environ.get(MODE))
        elif os.environ.get(MODE):
            experiment = experiment._replace(lab=msgspec.structs.replace(experiment.lab, mode=os.environ[MODE]))
        seed = int(os.environ.get(SEED) or experiment.seed)
        folder = _folder()
        run = session.Session(experiment, seed, folder, _tell, _stage(context))
        _interrupt_once()
        run.begin()
    except (ExperimentError, LabError, session.SessionError, ValueError) as error:
        write_reason(_folder(), f"it could not begin: {error}")
        raise InterruptExecution(str(error)) from error


def _folder() -> Path:
    return Path(os.environ.get(OUT) or "chaos-run").absolute()


def _stage(context: dict[str, Any]) -> session.Stage:
    """The lab, or the cluster named in the environment; for a cluster, unsupported probes are removed."""
    from chaos.targets.kube.settings import KubeOptions
    from chaos.targets.kube.stage import KubeStage

    if not os.environ.get(KUBE):
        attach = os.environ.get(LAB)
        return LabStage(Path(attach) if attach else None, bool(os.environ.get(WEB_UI)))
    hypothesis = context.get("steady-state-hypothesis") or {}
    asked = hypothesis.get("probes") or []
    hidden = [probe for probe in asked if probe["provider"].get("func") in HIDDEN]
    hypothesis["probes"] = [probe for probe in asked if probe not in hidden]
    for probe in hidden:
        _tell(f"probe skipped, as a cluster's API does not show it: {probe['name']}")
    return KubeStage(msgspec.json.decode(os.environ[KUBE], type=KubeOptions))


def _interrupt_once() -> None:
    """SIGTERM ends a run like SIGINT, by healing; a second signal does not interrupt the healing.

    Chaos Toolkit's own handler raises an exception that it then treats as a failed activity, and continues.
    """

    def interrupt(received: int, _frame: Any) -> None:
        write_reason(_folder(), f"interrupted by {signal.Signals(received).name}")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        _tell("ending: healing all faults first (kill -9 would leave them in force)")
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, interrupt)


def after_experiment_control(context: dict[str, Any], state: dict[str, Any] | None = None, **_: Any) -> None:
    """End the session and write its facts; with Chaos Toolkit's own command, compute the verdict too."""
    try:
        run = session.current()
        # A hypothesis that is not met, or whose probe fails, ends a run early only before the method.
        finished = state is not None and state.get("status") in ("completed", "failed")
        run.end(finished, journal=state or {})
        if not os.environ.get(PATH):  # set by `harness chaos run`, which judges and prints all of it
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
