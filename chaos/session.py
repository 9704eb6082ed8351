"""One run of an experiment: lab up, load on, faults one after the other, everything written into its folder.

Chaos Toolkit drives it through `chaos.control` (begin, end) and `chaos.actions` (each fault); there is one session
at a time in a process, `current()`.
"""

from __future__ import annotations

import os
import platform
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from chaos.experiment import Experiment, plan_of
from chaos.kafka_log import KafkaLog
from chaos.load import LoadProcess, start_load
from chaos.model import PlanError, Step
from chaos.perform import Performed, Performer, TargetError
from chaos.plan import Plan
from chaos.targets.lab import LabTarget
from harness.kafka.broker import BrokerError
from harness.lab.control import LabClient, LabError
from harness.lab.launch import RECORDING, lab

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


class Session:
    """`folder` gets the run's files; `attach` is a lab that runs already, otherwise one is started for the run.

    With `web_ui` each load serves locust's page in its namespace.
    """

    def __init__(
        self,
        experiment: Experiment,
        seed: int,
        folder: Path,
        tell: Callable[[str], None],
        attach: Path | None = None,
        web_ui: bool = False,
    ) -> None:
        self.experiment, self.seed, self.folder = experiment, seed, folder
        self.performed: list[Performed] = []
        self.plan: Plan | None = None
        self._tell, self._attach, self._web_ui = tell, attach, web_ui
        self._stack = ExitStack()
        self._load: list[LoadProcess] = []
        self._kafka: KafkaLog | None = None
        self._lock = threading.Lock()
        self._left: list[Step] = []
        self._baseline = 0.0

    def begin(self) -> None:
        """Lab, plan, load, warm-up; SessionError when one of them is not to be had, with nothing left running."""
        global _current
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._begin()
        except (BrokerError, LabError, PlanError, TargetError) as error:
            self._stack.close()
            raise SessionError(str(error)) from None
        except BaseException:
            self._stack.close()
            raise
        _current = self

    def _begin(self) -> None:
        if self._attach:
            self.client = LabClient(self._attach)
        else:
            self._tell(f"lab: {self.experiment.lab.nodes} nodes, {self.experiment.lab.pods} pods")
            self.client = self._stack.enter_context(
                lab(self.experiment.lab, self.folder / "lab", lambda line: self._tell(f"  {line}"))
            )
        self.target = LabTarget(self.client, self._start_kafka() if self.experiment.kafka else None)
        self.status = self.client.call("status")
        self.plan = plan_of(self.experiment, self.target.cluster(), self.seed)
        self._left = list(self.plan.steps)
        self.target.note({"phase": "plan", "plan": msgspec.to_builtins(self.plan)})
        self._load = start_load(self.client, self.experiment.load, self.folder / "load", self.seed, self._web_ui)
        if self._web_ui:
            self._tell(f"locust's page: harness lab forward --lab {self.client.folder} client 8089")
        time.sleep(self.experiment.load.warm_up_seconds)
        self._baseline = self.target.now()

    def _start_kafka(self) -> KafkaLog:
        self._tell("kafka: a broker for the event log")
        self._kafka = KafkaLog(self.folder / "kafka", self.client.folder / RECORDING)
        self._stack.callback(self._kafka.close)
        self._kafka.start()
        return self._kafka

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
        while not self.settled():
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def settled(self) -> bool:
        """Whether all is as it should be now."""
        status = self.client.call("status")
        pods = [pod for pod in status["pods"] if not pod["terminating"]]
        return (
            len(status["pods"]) == len(pods) == status["replicas"]
            and all(pod["ready"] for pod in pods)
            and all(node["ready"] and node["engine_healthy"] for node in status["nodes"])
            and self.client.call("open_questions") == 0
        )

    def end(self, finished: bool) -> Path:
        """Cool down, end load and lab, write the facts; their file."""
        global _current
        _current = None
        try:
            if finished:
                time.sleep(self.experiment.load.cool_down_seconds)
            facts = self._facts(finished)
            shutil.copyfile(self.client.folder / RECORDING, self.folder / RECORDING)
        finally:
            self._stack.close()
        path = self.folder / RUN
        path.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1))
        return path

    def _facts(self, finished: bool) -> dict[str, Any]:
        loads = [(process, process.stop()) for process in self._load]
        status = self.client.call("status")
        return {
            "version": 1,
            "experiment": {
                "title": self.experiment.title,
                "description": self.experiment.raw.get("description", ""),
                "file": self.experiment.path,
            },
            "seed": self.seed,
            "mode": status["mode"],
            "environment": {
                "kernel": platform.release(),
                "python": platform.python_version(),
                "cpus": os.cpu_count(),
                "harness": version("kube-proxy-harness"),
            },
            "lab": self.experiment.lab,
            "began_monotonic_ns": status["began_monotonic_ns"],
            "seconds": status["seconds"],
            "baseline_seconds": self._baseline,
            "plan": self.plan,
            "performed": self.performed,
            "observations": self.client.call("observations"),
            "engine_cpu_seconds": self.client.call("engine.cpu"),
            "load": [
                {"name": p.name, "where": p.where, "file": str(p.out.relative_to(self.folder)), "exit_code": code}
                for p, code in loads
            ],
            "kafka": self._kafka.finish() if self._kafka else None,
            "objectives": self.experiment.objectives,
            "finished": finished,
        }
