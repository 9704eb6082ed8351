"""Injects faults into a running lab through its control socket."""

from __future__ import annotations

from typing import Any

from chaos.kafka_log import KafkaLog
from chaos.model import Cluster, Condition, Op, Pod
from chaos.perform import TargetError
from harness.lab.control import LabClient, LabError
from harness.log.kafka.broker import BrokerError

NO_KAFKA = "the lab's event log is not written to Kafka: the experiment's extension needs `kafka: true`"
NETEM = ("sh", "-c", "tc qdisc add dev lo root netem delay 1ms && tc qdisc del dev lo root")
"""Probes for netem on loopback, where it does not affect a Service."""


class LabTarget:
    """A `Target` around a lab's client."""

    def __init__(self, client: LabClient, kafka: KafkaLog | None = None) -> None:
        self.client, self._kafka = client, kafka

    def cluster(self) -> Cluster:
        """Its nodes, and the pods that are not terminating."""
        status = self._call("status")
        pods = [Pod(p["name"], p["node"], p["address"]) for p in status["pods"] if not p["terminating"]]
        nodes = sorted(node["name"] for node in status["nodes"])
        return Cluster(tuple(nodes), tuple(sorted(pods, key=lambda pod: pod.name)), status["mode"])

    def can(self, op: Op) -> str:
        """The lab supports all operations, but it may have no broker, and its kernel no netem."""
        if op.name.startswith("broker.") and self._kafka is None:
            return NO_KAFKA
        if "netem" in op.arguments.get("command", ()):
            tried = self.client.run(op.arguments["node"], list(NETEM))
            return "" if tried.returncode == 0 else f"the kernel has no netem: {_words(tried.stderr)}"
        return ""

    def perform(self, op: Op) -> None:
        """Operations are the lab's own; `node.run` runs a command on a node, which must exit with 0.

        A lab has no disruption budgets: an eviction is a deletion.
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
        """Uses one status for all, and one command per condition that has a command."""
        status = self._call("status")
        return [self._holds(condition, status) for condition in conditions]

    def _holds(self, condition: Condition, status: dict[str, Any]) -> bool:
        if condition.command:
            return self.client.run(condition.name, list(condition.command)).returncode == 0
        if condition.kind in ("pod", "node"):
            found = next((o for o in status[f"{condition.kind}s"] if o["name"] == condition.name), None)
            return found is not None and found[condition.field] == condition.value
        if condition.kind == "kernel":
            judged = self._call("kernels.judge", nodes=[condition.name])
            return bool(judged[condition.name][condition.field] == condition.value)
        if condition.kind == "cluster" and condition.field == "replicas":
            return bool(sum(not pod["terminating"] for pod in status["pods"]) == condition.value)
        if condition.kind == "broker":
            return self._kafka is not None and self._kafka.up == condition.value
        return bool(status[condition.field] == condition.value)

    def note(self, what: dict[str, Any]) -> float:
        """A FAULT event in the lab's event log."""
        return float(self._call("fault.note", what=what))

    def now(self) -> float:
        """The event log's clock."""
        return float(self._call("status")["seconds"])

    def _run(self, node: str, command: list[str]) -> None:
        done = self.client.run(node, command)
        if done.returncode:
            words = _words(done.stderr)
            raise TargetError(f"`{' '.join(command)}` on {node}: {words or f'exit code {done.returncode}'}")

    def _broker(self, verb: str) -> None:
        if self._kafka is None:
            raise TargetError(NO_KAFKA)
        try:
            self._kafka.kill() if verb == "kill" else self._kafka.restart()
        except BrokerError as error:
            raise TargetError(str(error)) from None

    def _call(self, op: str, **arguments: Any) -> Any:
        try:
            return self.client.call(op, **arguments)
        except LabError as error:
            raise TargetError(str(error)) from None


def _words(text: bytes) -> str:
    return text.decode(errors="replace").strip()
