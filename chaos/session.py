"""One run of an experiment: stage up, load on, faults one after the other, everything written into its folder.

Chaos Toolkit drives it through `chaos.control` (begin, end) and `chaos.actions` (each fault); there is one session
at a time in a process, `current()`.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import msgspec

from chaos.experiment import Experiment
from chaos.load import LoadProcess
from chaos.model import PlanError, Step
from chaos.perform import Performed, Performer, Target, TargetError
from chaos.plan import Plan
from harness.kafka.broker import BrokerError
from harness.lab.control import LabError

SETTLE_SECONDS = 60.0
LOOK_SECONDS = 0.1
RUN = "run.json"

_current: Session | None = None


class SessionError(RuntimeError):
    """The run cannot begin or go on; the message says why."""


def current() -> Session:
    """The session that runs; SessionError when there is none."""
    if _current is None:
        raise SessionError(
            "no run has begun: the experiment needs the control `chaos.control` (see chaos/experiments), or"
            " run it by `harness chaos run`"
        )
    return _current


class Stage(Protocol):
    """Where a run takes place: what it starts, what it knows, what it leaves."""

    target: Target
    """Where its faults go, once it is open."""

    def open(self, experiment: Experiment, seed: int, folder: Path, tell: Callable[[str], None]) -> Plan:
        """Make ready, and say what will be done; PlanError, TargetError or LabError when that cannot be."""

    def start_load(self, folder: Path) -> list[LoadProcess]:
        """Start the traffic, its logs in `folder`; LabError when it does not begin."""

    def settled(self) -> bool:
        """Whether all is as it should be now."""

    def health(self) -> dict[str, bool | None]:
        """`pods`, `nodes`, `engines`, `kernels`: whether all is well with them; None: cannot be seen from here."""

    def facts(self) -> dict[str, Any]:
        """Its part of run.json: mode, began_monotonic_ns, seconds, observations, engine_cpu_seconds and more."""

    def keep(self, folder: Path) -> None:
        """Leave the recording in the run's folder."""

    def close(self) -> list[str]:
        """End what it started, put back what is not as it was; what went wrong with that, in words."""


class Session:
    """`folder` gets the run's files; all that happens, happens on `stage`."""

    def __init__(
        self, experiment: Experiment, seed: int, folder: Path, tell: Callable[[str], None], stage: Stage
    ) -> None:
        self.experiment, self.seed, self.folder, self.stage = experiment, seed, folder, stage
        self.performed: list[Performed] = []
        self.plan: Plan | None = None
        self._tell = tell
        self._load: list[LoadProcess] = []
        self._lock = threading.Lock()
        self._left: list[Step] = []
        self._baseline = 0.0

    @property
    def target(self) -> Target:
        """Where the faults go."""
        return self.stage.target

    def begin(self) -> None:
        """Stage, plan, load, warm-up; SessionError when one of them is not to be had, with nothing left running."""
        global _current
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._begin()
        except (BrokerError, LabError, PlanError, TargetError) as error:
            self._abandon()
            raise SessionError(str(error)) from None
        except BaseException:
            self._abandon()
            raise
        _current = self

    def _begin(self) -> None:
        self.plan = self.stage.open(self.experiment, self.seed, self.folder, self._tell)
        check(self.plan, self.target)
        self._left = list(self.plan.steps)
        self.target.note({"phase": "plan", "plan": msgspec.to_builtins(self.plan)})
        self._load = self.stage.start_load(self.folder / "load")
        time.sleep(self.experiment.load.warm_up_seconds)
        self._baseline = self.target.now()

    def _abandon(self) -> None:
        for process in self._load:
            process.stop()
        for trouble in self.stage.close():
            self._tell(trouble)

    def inject(self, fault: str) -> Performed:
        """The plan's next step of that fault, then wait until the cluster has settled."""
        with self._lock:
            step = next((step for step in self._left if step.fault == fault), None)
            if step is None:
                raise SessionError(f"the plan has no more steps of {fault}")
            self._left.remove(step)
        done = Performer(self.target, self._tell).perform(step)
        self.performed.append(done)
        if not self.settle(SETTLE_SECONDS):
            done.errors.append(f"the cluster did not settle within {SETTLE_SECONDS:g} s of the heal")
        done.settled = self.target.now()
        return done

    def settle(self, seconds: float) -> bool:
        """Wait until all is as it should be: pods ready, engines healthy, every kernel up to date."""
        deadline = time.monotonic() + seconds
        while not self.stage.settled():
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def end(self, finished: bool) -> Path:
        """Cool down, end load and stage, write the facts; their file."""
        global _current
        _current = None
        try:
            if finished:
                time.sleep(self.experiment.load.cool_down_seconds)
            facts = self._facts(finished)
            self.stage.keep(self.folder)
        finally:
            troubles = self.stage.close()
            for trouble in troubles:
                self._tell(trouble)
        facts["troubles"] = [*facts.get("troubles", ()), *troubles]
        path = self.folder / RUN
        path.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1))
        return path

    def _facts(self, finished: bool) -> dict[str, Any]:
        loads = [(process, process.stop()) for process in self._load]
        return {
            "version": 1,
            "experiment": {
                "title": self.experiment.title,
                "description": self.experiment.raw.get("description", ""),
                "file": self.experiment.path,
            },
            "seed": self.seed,
            "environment": {
                "kernel": platform.release(),
                "python": platform.python_version(),
                "cpus": os.cpu_count(),
                "harness": version("kube-proxy-harness"),
            },
            "baseline_seconds": self._baseline,
            "plan": self.plan,
            "performed": self.performed,
            "load": [
                {"name": p.name, "where": p.where, "file": str(p.out.relative_to(self.folder)), "exit_code": code}
                for p, code in loads
            ],
            "objectives": self.experiment.objectives,
            "finished": finished,
            **self.stage.facts(),
        }


def check(plan: Plan, target: Target) -> None:
    """PlanError naming every step with an operation that the target has no way to do: before anything happens."""
    found = []
    for step in plan.steps:
        reasons = dict.fromkeys(filter(None, map(target.can, (*step.script.inject, *step.script.heal))))
        found += [f"step {step.number} ({step.fault}): {reason}" for reason in reasons]
    if found:
        raise PlanError("; ".join(found))
