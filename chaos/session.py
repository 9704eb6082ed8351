"""One run of an experiment: starts stage and load, injects faults one after another, writes results to its folder.

Chaos Toolkit drives it through `chaos.control` (begin, end) and `chaos.actions` (each fault).  The control puts the
session into Chaos Toolkit's configuration, which every action and probe receives: `session_of`.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import msgspec

from chaos.experiment import Experiment
from chaos.load import LoadProcess
from chaos.model import PlanError, PlannedFault
from chaos.perform import ChaosTarget, Performer, StepResult, TargetError
from chaos.plan import Plan
from chaos.run_facts import Differences, Environment, ExperimentFacts, LoadFile, RunFacts, StageFacts, UsageSample
from chaos.verdict.journal import write_journal
from harness.lab.answers import EngineUsage
from harness.lab.control import LabError
from harness.log.kafka.broker import BrokerError
from harness.places import vm

SETTLE_SECONDS, AGREE_SECONDS = 60.0, 3.0
LOOK_SECONDS = 0.1
RUN = "run.json"

KEY = "kube-proxy-harness session"
"""Name of the entry in Chaos Toolkit's configuration."""


class SessionError(RuntimeError):
    """The run cannot begin or continue; the message states why."""


class ChaosStage(Protocol):
    """The environment of a run: a lab or a real cluster."""

    @property
    def target(self) -> ChaosTarget:
        """The target of its faults, once it is open."""

    def open(self, experiment: Experiment, seed: int, folder: Path, report: Callable[[str], None]) -> Plan:
        """Prepare, and return the plan; PlanError, TargetError or LabError if that fails."""

    def start_load(self, folder: Path) -> list[LoadProcess]:
        """Start the traffic, with logs in `folder`; LabError if it does not begin."""

    def health(self) -> dict[str, bool | None]:
        """Whether `pods`, `nodes`, `engines` and `kernels` are healthy; None: not observable from here."""

    def kernels(self) -> Differences | None:
        """By node, differences of its complete kernel state from the API; None: not observable from here."""

    def restore(self) -> None:
        """Restore objects that faults removed for good, once it is known whether the nodes had removed them too."""

    def usage(self) -> dict[str, EngineUsage]:
        """By node, the resources used by its engine; empty: not observable from here."""

    def facts(self) -> StageFacts:
        """Its part of run.json."""

    def keep(self, folder: Path) -> None:
        """Write the recording to the run's folder."""

    def close(self) -> list[str]:
        """Stop what it started and restore what it changed; returns errors as text."""


class ChaosSession:
    """`folder` receives the run's files; `stage` is where the run takes place."""

    def __init__(
        self, experiment: Experiment, seed: int, folder: Path, report: Callable[[str], None], stage: ChaosStage
    ) -> None:
        self.experiment, self.seed, self.folder, self.stage = experiment, seed, folder, stage
        self.performed: list[StepResult] = []
        self.plan: Plan | None = None
        self.skipped: dict[int, str] = {}
        self.ended = False
        self._report = report
        self.usage: list[UsageSample] = []
        self._load: list[LoadProcess] = []
        self._lock = threading.Lock()
        self._left: list[PlannedFault] = []
        self._unsettled = ""
        self._baseline = 0.0
        self._before: Differences | None = None
        self._after: Differences | None = None

    @property
    def share_done(self) -> tuple[int, int]:
        """The number of completed faults, and of all that are planned and supported."""
        planned = len(self.plan.steps) - len(self.skipped) if self.plan else 0
        return len(self.performed), planned

    @property
    def target(self) -> ChaosTarget:
        """The target of the faults."""
        return self.stage.target

    def begin(self) -> None:
        """Stage, plan, load, warm-up; SessionError if one of them fails, with nothing left running."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._begin()
        except (BrokerError, LabError, PlanError, TargetError) as error:
            self._abandon()
            raise SessionError(str(error)) from None
        except BaseException:
            self._abandon()
            raise

    def _begin(self) -> None:
        self.plan = self.stage.open(self.experiment, self.seed, self.folder, self._report)
        self.skipped = check(self.plan, self.target)
        for number, why in self.skipped.items():
            self._report(f"{number}. SKIPPED: {why}")
        self._left = list(self.plan.steps)
        self.target.note({"phase": "plan", "plan": msgspec.to_builtins(self.plan)})
        self._load = self.stage.start_load(self.folder / "load")
        time.sleep(self.experiment.load.warm_up_seconds)
        self._before = self._kernels()
        self._baseline = self.target.now()
        self._sample()

    def _sample(self) -> None:
        """Sample the engines' resource usage."""
        if found := self.stage.usage():
            self.usage.append(UsageSample(self.target.now(), found))

    def _abandon(self) -> None:
        for process in self._load:
            process.stop()
        for trouble in self.stage.close():
            self._report(trouble)

    def inject(self, fault: str) -> StepResult | str:
        """Run the plan's next step of that fault, then wait until the cluster has settled; or why it was skipped.

        SessionError once the cluster did not settle: the effects of a further fault would prove nothing.
        """
        with self._lock:
            if self._unsettled:
                raise SessionError(f"not tried: the cluster has not settled since {self._unsettled}")
            step = next((step for step in self._left if step.fault == fault), None)
            if step is None:
                raise SessionError(f"the plan has no more steps of {fault}")
            self._left.remove(step)
        if step.number in self.skipped:
            return self.skipped[step.number]
        done = Performer(self.target, self._report).perform(step)
        self.performed.append(done)
        limit = SETTLE_SECONDS * vm.patience()
        if not self.settle(limit, done):
            done.errors.append(f"the cluster did not settle within {limit:g} s of the heal")
            self._unsettled = f"{step.number}. {step.fault}"
        done.settled = self.target.now()
        done.kernels = self._kernels()
        self.stage.restore()
        self._sample()
        return done

    def _kernels(self) -> Differences | None:
        """The kernels' differences from the API, after changes in flight had time to complete."""
        deadline = time.monotonic() + AGREE_SECONDS * vm.patience()
        while (found := self.stage.kernels()) and any(found.values()) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        return found

    def settle(self, seconds: float, done: StepResult | None = None) -> bool:
        """Wait until pods are ready, engines healthy and every kernel is up to date.

        `done` receives the time at which the engines were.
        """
        deadline = time.monotonic() + seconds
        while True:
            health = self.stage.health()
            if done and done.engines_back is None and health["engines"]:
                done.engines_back = self.target.now()
            if all(value in (True, None) for value in health.values()) and health["pods"]:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_SECONDS)

    def end(self, finished: bool, journal: dict[str, Any] | None = None) -> Path:
        """Cool down, stop load and stage, write the facts; returns their file.  `journal`: Chaos Toolkit's, if any."""
        self.ended = True
        try:
            if finished:
                time.sleep(self.experiment.load.cool_down_seconds)
                self._after = self._kernels()
            facts = self._facts(finished)
            self.stage.keep(self.folder)
        finally:
            troubles = self.stage.close()
            for trouble in troubles:
                self._report(trouble)
        facts.troubles = [*facts.troubles, *troubles]
        facts.journal = journal is not None
        if journal is not None:
            write_journal(self.folder, journal)
        path = self.folder / RUN
        path.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1))
        return path

    def _facts(self, finished: bool) -> RunFacts:
        loads = [(process, process.stop()) for process in self._load]
        cluster = msgspec.structs.asdict(self.stage.facts())
        return RunFacts(
            **cluster,
            experiment=ExperimentFacts(
                self.experiment.title, self.experiment.raw.get("description", ""), self.experiment.path
            ),
            seed=self.seed,
            environment=Environment(
                platform.release(), platform.python_version(), os.cpu_count(), version("kube-proxy-harness")
            ),
            baseline_seconds=self._baseline,
            plan=self.plan,
            performed=self.performed,
            skipped=self.skipped,
            usage=self.usage,
            kernels_before=self._before,
            kernels_after=self._after,
            load_options=self.experiment.load,
            load=[LoadFile(p.where, str(p.out.relative_to(self.folder)), code, p.where) for p, code in loads],
            objectives=self.experiment.objectives,
            finished=finished,
        )


def session_of(configuration: Mapping[str, Any] | None) -> ChaosSession:
    """The session of an experiment, from Chaos Toolkit's configuration; SessionError if none has begun."""
    found = (configuration or {}).get(KEY)
    if not isinstance(found, ChaosSession):
        raise SessionError(
            "no run has begun: the experiment needs the control `chaos.control` (see chaos/experiments), or"
            " run it with `harness chaos run`"
        )
    return found


def check(plan: Plan, target: ChaosTarget) -> dict[int, str]:
    """Before anything happens: the reason for skipping each unsupported optional step, by its number.

    PlanError names an unsupported step that is not optional.
    """
    found, skipped = [], {}
    for step in plan.steps:
        reasons = list(dict.fromkeys(filter(None, map(target.can, (*step.script.inject, *step.script.heal)))))
        if reasons and step.optional:
            skipped[step.number] = f"{step.fault}: {'; '.join(reasons)}"
        elif reasons:
            found += [f"step {step.number} ({step.fault}): {reason}" for reason in reasons]
    if found:
        raise PlanError("; ".join(found))
    return skipped
