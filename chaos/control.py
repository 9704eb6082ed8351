"""The control of our Chaos Toolkit experiments: begins the session before them and ends it after.

    controls:
      - name: kube-proxy-harness
        provider: {type: python, module: chaos.control}

Read from the environment, as `chaos run` has no options for them: CHAOS_SEED, CHAOS_MODE, CHAOS_OUT (the run's
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

SEED, MODE, OUT, LAB = "CHAOS_SEED", "CHAOS_MODE", "CHAOS_OUT", "CHAOS_LAB"
PATH, WEB_UI, KUBE = "CHAOS_EXPERIMENT", "CHAOS_WEB_UI", "CHAOS_KUBE"
HIDDEN = ("engines_healthy", "kernels_up_to_date")
"""Probes that a cluster's API has no answer to."""


def before_experiment_control(context: dict[str, Any], **_: Any) -> None:
    """Begin; an experiment whose lab or load is not to be had does not run."""
    try:
        experiment = read_experiment(context, os.environ.get(PATH, "experiment"))
        if os.environ.get(MODE):
            experiment = experiment._replace(lab=msgspec.structs.replace(experiment.lab, mode=os.environ[MODE]))
        seed = int(os.environ.get(SEED) or experiment.seed)
        folder = Path(os.environ.get(OUT) or "chaos-run").absolute()
        run = session.Session(experiment, seed, folder, _tell, _stage(context))
        _interrupt_once()
        run.begin()
    except (ExperimentError, session.SessionError, ValueError) as error:
        raise InterruptExecution(str(error)) from error


def _stage(context: dict[str, Any]) -> session.Stage:
    """The lab, or the cluster that the environment names; then without the probes that it has no answer to."""
    from chaos.targets.kube.settings import KubeOptions
    from chaos.targets.kube.stage import KubeStage
    from chaos.targets.lab_stage import LabStage

    if not os.environ.get(KUBE):
        attach = os.environ.get(LAB)
        return LabStage(Path(attach) if attach else None, bool(os.environ.get(WEB_UI)))
    hypothesis = context.get("steady-state-hypothesis") or {}
    asked = hypothesis.get("probes") or []
    hidden = [probe for probe in asked if probe["provider"].get("func") in HIDDEN]
    hypothesis["probes"] = [probe for probe in asked if probe not in hidden]
    for probe in hidden:
        _tell(f"not asked, for a cluster does not show it: {probe['name']}")
    return KubeStage(msgspec.json.decode(os.environ[KUBE], type=KubeOptions))


def _interrupt_once() -> None:
    """SIGTERM ends a run as SIGINT does, by healing; neither disturbs the healing a second time.

    Chaos Toolkit's own handler raises what it then takes for a failed activity, and goes on with the next.
    """

    def interrupt(*_: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        _tell("ending: everything is healed first (kill -9 would leave it as it is)")
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, interrupt)


def after_experiment_control(context: dict[str, Any], state: dict[str, Any] | None = None, **_: Any) -> None:
    """End it, write what was found, and judge it."""
    try:
        run = session.current()
        run.end(finished=bool(state) and state.get("status") in ("completed", "deviated"))
        _tell(judge_folder(run.folder).summary().splitlines()[0])
    except session.SessionError:
        return  # it never began
    except Exception as error:
        _tell(f"the run could not be ended: {error!r}")  # Chaos Toolkit is silent about it
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
