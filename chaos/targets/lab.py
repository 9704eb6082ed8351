"""Injects faults into a running lab through its control socket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from chaos.kafka_log import KafkaLog
from chaos.model import Cluster, Condition, Op, Pod
from chaos.perform import TargetError
from harness.lab.answers import NodeStatus, PodStatus, Status
from harness.lab.control import LabClient, LabError
from harness.log.kafka.broker import BrokerError

NO_KAFKA = "the lab's event log is not written to Kafka: the experiment's extension needs `kafka: true`"
NETEM = ("sh", "-c", "tc qdisc add dev lo root netem delay 1ms && tc qdisc del dev lo root")
"""Probes for netem on loopback, where it does not affect a Service."""


@contextmanager
def _refusals() -> Iterator[None]:
    """Convert the lab's errors to the target's."""
    try:
        yield
    except LabError as error:
        raise TargetError(str(error)) from None


class LabTarget:
    """A `ChaosTarget` around a lab's client."""

    def __init__(self, client: LabClient, kafka: KafkaLog | None = None) -> None:
        self.client, self._kafka = client, kafka

    @_refusals()
    def cluster(self) -> Cluster:
        """Its nodes, and the pods that are not terminating."""
        status = self.client.status()
        pods = [Pod(p.name, p.node, p.address or "") for p in status.pods if not p.terminating]
        nodes = sorted(node.name for node in status.nodes)
        return Cluster(tuple(nodes), tuple(sorted(pods, key=lambda pod: pod.name)), status.mode)

    def can(self, op: Op) -> str:
        """The lab supports all operations, but it may have no broker, and its kernel no netem."""
        if op.name.startswith("broker.") and self._kafka is None:
            return NO_KAFKA
        if "netem" in op.arguments.get("command", ()):
            tried = self.client.run(op.arguments["node"], list(NETEM))
            return "" if tried.returncode == 0 else f"the kernel has no netem: {_words(tried.stderr)}"
        return ""

    @_refusals()
    def perform(self, op: Op) -> None:
        """Operations are the lab's own; `node.run` runs a command on a node, which must exit with 0.

        A lab has no disruption budgets: an eviction is a deletion.
        """
        if op.name == "node.run":
            self._run(op.arguments["node"], op.arguments["command"])
        elif op.name == "pod.evict":
            self.client.perform("pod.delete", **op.arguments)
        elif op.name.startswith("broker."):
            self._broker(op.name.removeprefix("broker."))
        else:
            self.client.perform(op.name, **op.arguments)

    @_refusals()
    def holds(self, conditions: list[Condition]) -> list[bool]:
        """Uses one status for all, and one command per condition that has a command."""
        status = self.client.status()
        return [self._holds(condition, status) for condition in conditions]

    def _holds(self, condition: Condition, status: Status) -> bool:
        if condition.command:
            return self.client.run(condition.name, list(condition.command)).returncode == 0
        if condition.kind in ("pod", "node"):
            there: Sequence[PodStatus | NodeStatus] = status.pods if condition.kind == "pod" else status.nodes
            found = next((each for each in there if each.name == condition.name), None)
            return found is not None and _has(found, condition)
        if condition.kind == "kernel":
            return _has(self.client.kernels_judge([condition.name])[condition.name], condition)
        if condition.kind == "cluster" and condition.field == "replicas":
            return bool(sum(not pod.terminating for pod in status.pods) == condition.value)
        if condition.kind == "broker":
            return self._kafka is not None and self._kafka.up == condition.value
        return _has(status, condition)

    @_refusals()
    def note(self, what: Mapping[str, object]) -> float:
        """A FAULT event in the lab's event log."""
        return self.client.fault_note(what)

    @_refusals()
    def now(self) -> float:
        """The event log's clock."""
        return self.client.status().seconds

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


def _has(thing: object, condition: Condition) -> bool:
    return bool(getattr(thing, condition.field) == condition.value)


def _words(text: bytes) -> str:
    return text.decode(errors="replace").strip()
