"""A lab as a run's stage: started for it, or one that runs already."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from chaos.experiment import Experiment, plan_of
from chaos.kafka_log import KafkaLog
from chaos.load import LoadProcess, start_load
from chaos.plan import Plan
from chaos.targets.lab import LabTarget
from harness.lab.control import LabClient
from harness.lab.launch import RECORDING, lab


class LabStage:
    """A `Stage`; `attach` is the folder of a lab that runs already and goes on running.

    With `web_ui` each load serves locust's page in its namespace.
    """

    def __init__(self, attach: Path | None = None, web_ui: bool = False) -> None:
        self._attach, self._web_ui, self._stack = attach, web_ui, ExitStack()
        self._kafka: KafkaLog | None = None

    def open(self, experiment: Experiment, seed: int, folder: Path, tell: Callable[[str], None]) -> Plan:
        """Lab up."""
        self._experiment, self._seed, self._tell = experiment, seed, tell
        if self._attach:
            self.client = LabClient(self._attach)
        else:
            tell(f"lab: {experiment.lab.nodes} nodes, {experiment.lab.pods} pods")
            self.client = self._stack.enter_context(lab(experiment.lab, folder / "lab", lambda line: tell(f"  {line}")))
        self.target = LabTarget(self.client, self._start_kafka(folder) if experiment.kafka else None)
        return plan_of(experiment, self.target.cluster(), seed)

    def _start_kafka(self, folder: Path) -> KafkaLog:
        self._tell("kafka: a broker for the event log")
        self._kafka = KafkaLog(folder / "kafka", self.client.folder / RECORDING)
        self._stack.callback(self._kafka.close)
        self._kafka.start()
        return self._kafka

    def start_load(self, folder: Path) -> list[LoadProcess]:
        """A process in each place that has flows."""
        started = start_load(self.client, self._experiment.load, folder, self._seed, self._web_ui)
        if self._web_ui:
            self._tell(f"locust's page: harness lab forward --lab {self.client.folder} client 8089")
        return started

    def settled(self) -> bool:
        """Pods ready and as many as wanted, engines healthy and following the API, every kernel up to date."""
        return all(self.health().values())

    def health(self) -> dict[str, bool | None]:
        """All of it can be seen in a lab."""
        status = self.client.call("status")
        ready = [pod for pod in status["pods"] if pod["ready"] and not pod["terminating"]]
        return {
            "pods": len(ready) == len(status["pods"]) == status["replicas"],
            "nodes": all(node["ready"] for node in status["nodes"]),
            "engines": all(node["engine_healthy"] for node in status["nodes"]) and _followed(status),
            "kernels": self.client.call("open_questions") == 0,
        }

    def facts(self) -> dict[str, Any]:
        """What the lab knows at the end."""
        status = self.client.call("status")
        return {
            "mode": status["mode"],
            "lab": self._experiment.lab,
            "began_monotonic_ns": status["began_monotonic_ns"],
            "seconds": status["seconds"],
            "observations": self.client.call("observations"),
            "engine_cpu_seconds": self.client.call("engine.cpu"),
            "kafka": self._kafka.finish() if self._kafka else None,
        }

    def keep(self, folder: Path) -> None:
        """A copy of the lab's event log."""
        shutil.copyfile(self.client.folder / RECORDING, folder / RECORDING)

    def close(self) -> list[str]:
        """Lab down, with everything in it."""
        self._stack.close()
        return []


def _followed(status: dict[str, Any]) -> bool:
    """Whether every engine's watches are open again: one that waits to try anew is healthy, and blind."""
    return status["watches"] >= status["watches_wanted"]
