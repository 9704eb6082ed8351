"""The control of our Chaos Toolkit experiments: begins the session before them and ends it after.

    controls:
      - name: kube-proxy-harness
        provider: {type: python, module: chaos.control}

Read from the environment, as `chaos run` has no options for them: CHAOS_SEED, CHAOS_MODE, CHAOS_OUT (the run's
folder), CHAOS_LAB (a running lab's folder), CHAOS_WEB_UI (1: locust's page in each load's namespace).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
from chaoslib.exceptions import InterruptExecution

from chaos import session
from chaos.experiment import ExperimentError, read_experiment
from chaos.judged import judge_folder

SEED, MODE, OUT, LAB = "CHAOS_SEED", "CHAOS_MODE", "CHAOS_OUT", "CHAOS_LAB"
PATH, WEB_UI = "CHAOS_EXPERIMENT", "CHAOS_WEB_UI"


def before_experiment_control(context: dict[str, Any], **_: Any) -> None:
    """Begin; an experiment whose lab or load is not to be had does not run."""
    try:
        experiment = read_experiment(context, os.environ.get(PATH, "experiment"))
        if os.environ.get(MODE):
            experiment = experiment._replace(lab=msgspec.structs.replace(experiment.lab, mode=os.environ[MODE]))
        seed = int(os.environ.get(SEED) or experiment.seed)
        attach = os.environ.get(LAB)
        run = session.Session(
            experiment,
            seed,
            Path(os.environ.get(OUT) or "chaos-run").absolute(),
            _tell,
            Path(attach) if attach else None,
            bool(os.environ.get(WEB_UI)),
        )
        run.begin()
    except (ExperimentError, session.SessionError, ValueError) as error:
        raise InterruptExecution(str(error)) from error


def after_experiment_control(context: dict[str, Any], state: dict[str, Any] | None = None, **_: Any) -> None:
    """End it, write what was found, and judge it."""
    try:
        run = session.current()
    except session.SessionError:
        return  # it never began
    run.end(finished=bool(state) and state.get("status") in ("completed", "deviated"))
    _tell(judge_folder(run.folder).summary().splitlines()[0])


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
