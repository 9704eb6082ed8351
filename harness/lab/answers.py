"""The answers of a running lab as values: the types at both ends of its control socket.  Pure.

Times are seconds on the event log's clock, unless their names say otherwise.
"""

from __future__ import annotations

import msgspec

from harness.lab.topology import LabOptions

Moments = dict[str, list[float]]
"""Times of transactions, by the IP family of their tables: families are synced independently."""


class LabFacts(msgspec.Struct, frozen=True):
    """The constant properties of a running lab; `pid` is its first process, as seen from outside."""

    user_namespace: bool
    options: LabOptions
    pid: int


class NodeStatus(msgspec.Struct, frozen=True):
    """A node and its engine; `wired`: connected to the network, `caller`: the client that is one of its pods."""

    name: str
    address: str
    zone: str
    ready: bool
    schedulable: bool
    kubelet: bool
    engine_pid: int | None
    engine_healthy: bool
    engine_synced: bool
    engine_stopped: bool
    wired: bool
    caller: str


class PodStatus(msgspec.Struct, frozen=True):
    """A pod and its process; `health` is the behaviour of its /healthz, None if its node runs no container for it."""

    name: str
    node: str
    address: str | None
    ready: bool
    terminating: bool
    running: bool
    stopped: bool
    health: str | None
    pid: int | None
    restarts: int


class PortStatus(msgspec.Struct, frozen=True):
    """A port of a Service."""

    port: int
    node_port: int | None = None


class ServiceStatus(msgspec.Struct, frozen=True):
    """The addresses at which clients reach a Service; `ports` by name."""

    name: str
    cluster_ip: str | None = None
    balancer: str | None = None
    ports: dict[str, PortStatus] = {}


class Status(msgspec.Struct, frozen=True):
    """The whole lab; `spares` are the unused Services and their slices.

    `watches_wanted` is the number of watches when all engines follow the API.
    """

    folder: str
    recording: str
    api: str
    mode: str
    seconds: float
    began_monotonic_ns: int
    nodes: list[NodeStatus]
    pods: list[PodStatus]
    services: list[ServiceStatus]
    replicas: int
    spares: list[int]
    faults: list[str]
    watches: int
    watches_wanted: int


class Observation(msgspec.Struct, frozen=True):
    """When a node's kernel added an address (`wanted`) or removed it, after the slices changed at `asked`.

    `seen` is None if it had not by `until`, when the change was undone or the wait ended.
    """

    node: str
    address: str
    wanted: bool
    asked: float
    seen: float | None
    until: float
    source: str = ""

    @property
    def seconds(self) -> float:
        """Lower bound of the time it took."""
        return self.until - self.asked


class EngineUsage(msgspec.Struct, frozen=True):
    """The resources that an engine's process has used; its memory is the resident size."""

    pid: int
    cpu_seconds: float
    memory_bytes: int


class FlowQuery(msgspec.Struct, frozen=True):
    """A query for the endpoint of a flow, identified by its client's packets.  Times are of CLOCK_MONOTONIC.

    `protocol` is tcp or udp; `node`, if known, is the node that it went through.  It began after `since_ns`; if that is
    unknown, the query is for the last flow before `until_ns`.
    """

    protocol: str
    source: str
    source_port: int
    address: str
    port: int
    node: str = ""
    since_ns: int | None = None
    until_ns: int | None = None


class FlowEndpoint(msgspec.Struct, frozen=True):
    """The node that translated a flow, and its endpoint; `older`: its packets matched the entry of an earlier flow."""

    node: str
    endpoint: str
    pod: str | None
    older: bool = False
