"""Faults into a running lab, through its control socket."""

from __future__ import annotations

from typing import Any

from chaos.kafka_log import KafkaLog
from chaos.model import Cluster, Condition, Op, Pod
from chaos.perform import TargetError
from harness.kafka.broker import BrokerError
from harness.lab.control import LabClient, LabError


class LabTarget:
    """A `Target` around a lab's client."""

    def __init__(self, client: LabClient, kafka: KafkaLog | None = None) -> None:
        self.client, self._kafka = client, kafka

    def cluster(self) -> Cluster:
        """Its nodes, and the pods that are not on their way out."""
        status = self._call("status")
        pods = [Pod(p["name"], p["node"], p["address"]) for p in status["pods"] if not p["terminating"]]
        nodes = sorted(node["name"] for node in status["nodes"])
        return Cluster(tuple(nodes), tuple(sorted(pods, key=lambda pod: pod.name)), status["mode"])

    def can(self, op: Op) -> str:
        """Whatever faults ask for is the lab's."""
        return ""

    def perform(self, op: Op) -> None:
        """Operations are the lab's own; `node.run` is a command on a node, which must exit with 0.

        Nobody has a disruption budget here: an eviction is a deletion.
        """
        if op.name == "node.run":
            self._run(op.arguments["node"], op.arguments["command"])
        elif op.name == "pod.evict":
            self._call("pod.delete", **op.arguments)
        elif op.name.startswith("broker."):
            self._broker(op.name.removeprefix("broker."))
        else:
            self._call(op.name, **op.arguments)

    def holds(self, conditions: list[Condition]) -> list[bool]:
        """By one status for all, and a command each where that is asked for."""
        status = self._call("status")
        return [self._holds(condition, status) for condition in conditions]

    def _holds(self, condition: Condition, status: dict[str, Any]) -> bool:
        if condition.command:
            return self.client.run(condition.name, list(condition.command)).returncode == 0
        if condition.kind in ("pod", "node"):
            found = next((o for o in status[f"{condition.kind}s"] if o["name"] == condition.name), None)
            return found is not None and found[condition.field] == condition.value
        if condition.kind == "broker":
            return self._kafka is not None and self._kafka.up == condition.value
        return status[condition.field] == condition.value

    def note(self, what: dict[str, Any]) -> float:
        """A FAULT event in the lab's event log."""
        return self._call("fault.note", what=what)

    def now(self) -> float:
        """The event log's clock."""
        return self._call("status")["seconds"]

    def _run(self, node: str, command: list[str]) -> None:
        done = self.client.run(node, command)
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip()
            raise TargetError(f"`{' '.join(command)}` on {node}: {words or f'exit code {done.returncode}'}")

    def _broker(self, verb: str) -> None:
        if self._kafka is None:
            raise TargetError(
                "the lab's event log does not go to Kafka: the experiment's extension needs `kafka: true`"
            )
        try:
            self._kafka.kill() if verb == "kill" else self._kafka.restart()
        except BrokerError as error:
            raise TargetError(str(error)) from None

    def _call(self, op: str, **arguments: Any) -> Any:
        try:
            return self.client.call(op, **arguments)
        except LabError as error:
            raise TargetError(str(error)) from None
