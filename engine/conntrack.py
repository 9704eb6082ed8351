"""Which UDP flows still go where no endpoint serves any more (CT): what to look for, not the looking.

    plans and slices of changed Services -> FlowTracker.update -> Stale, or None: nothing can be stale
                                                                    |
                                        engine.kernel.conntrack <---+  asks it about every UDP flow

Only UDP flows are ever stale (CT-01).  A client of UDP that keeps its source port keeps its conntrack
entry alive, and with it an endpoint that may be long gone.  TCP and SCTP are left alone: their peers
notice by themselves (a reset, an unanswered heartbeat) and come back with a new connection, while an
entry deleted under a living one would break it off in mid-stream, drained endpoints first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from engine.backends.claims import Claims
from engine.config import ProxyConfig
from engine.dataplane import PortPlan
from engine.model import UDP, Address, EndpointSlice, Name, Target
from engine.tracking import ClusterState, endpoints_of

RECONCILED_SINCE = (1, 32)
"""The version from which the whole table is held against what serves now (CT-04, before it CT-02)."""


class Stale(Protocol):
    """Whether a flow must go, by where its client sent it and who answers, each a packed address and port."""

    def __call__(self, destination: Target, replier: Target) -> bool: ...


class UdpPort(NamedTuple):
    """One UDP service port of one family; `port` and `node_port` are 2 bytes, b"" where there is none.

    `listed` are all endpoints in its slices, `serving` those that serve, whatever policy or topology say.
    """

    cluster_ip: Address
    outside_ips: tuple[Address, ...]
    port: bytes
    node_port: bytes
    listed: frozenset[Target]
    serving: frozenset[Target]


Ports = Mapping[str, UdpPort]
"""UDP ports of one Service by name."""


class Change(NamedTuple):
    """A Service's UDP ports before and after."""

    service: Name
    old: Ports
    new: Ports


class FlowTracker:
    """What flows of one family may look like, kept up to date Service by Service."""

    def __init__(self, family: int, config: ProxyConfig) -> None:
        self._family = family
        self._ports: dict[Name, Ports] = {}
        self._judge = Reconciler().judge if config.version >= RECONCILED_SINCE else what_left

    def update(
        self, state: ClusterState, dirty: Iterable[Name], plans: Mapping[Name, tuple[PortPlan, ...]]
    ) -> Stale | None:
        """Look at the dirty Services again; how to tell stale flows by, None when no flow became stale."""
        changes = []
        for name in dirty:
            old = self._ports.get(name, {})
            udp = [plan for plan in plans.get(name, ()) if plan.protocol == UDP]
            slices = state.slices.get(name, {})
            new = {plan.name: _udp_port(plan, slices, self._family, state.node_name) for plan in udp}
            if new == old:
                continue
            if new:
                self._ports[name] = new
            else:
                del self._ports[name]
            changes.append(Change(name, old, new))
        return self._judge(changes) if changes else None


def _udp_port(plan: PortPlan, slices: dict[str, EndpointSlice], family: int, node: str | None) -> UdpPort:
    endpoints = endpoints_of(slices, family, plan.name, UDP, node)
    return UdpPort(
        plan.cluster_ip,
        plan.external_ips + plan.load_balancer_ips,
        plan.port.to_bytes(2, "big"),
        plan.node_port.to_bytes(2, "big") if plan.node_port else b"",
        frozenset(endpoints),
        frozenset(target for target, endpoint in endpoints.items() if endpoint.serving),
    )


class Reconciler:
    """Stale is what goes to a port that is served, but not to one of those that serve it (CT-04).

    Covers endpoints that left or moved to another port, and flows that were never translated since
    they are older than the Service.  A port that nobody serves is left alone.
    """

    def __init__(self) -> None:
        self._claims = Claims()
        self._serving: dict[bytes, frozenset[Target]] = {}

    def judge(self, changes: Iterable[Change]) -> Stale | None:
        """How to tell stale flows after these changes."""
        for change in changes:
            wanted = {}
            for name, port in change.new.items():
                for key in _reached_by(port) if port.serving else ():
                    wanted[(key,), (change.service, name)] = port.serving
            self._claims.replace(change.service, wanted)
        found = False
        for (key,), _, serving in self._claims.settle():
            if serving is None:
                del self._serving[key]
            else:
                self._serving[key] = serving
                found = True
        return self._is_stale if found else None

    def _is_stale(self, destination: Target, replier: Target) -> bool:
        # A Service's own address says more than a node port of the same number.
        serving = self._serving.get(destination) or self._serving.get(destination[-2:])
        return serving is not None and replier not in serving


def _reached_by(port: UdpPort) -> list[bytes]:
    """Address and port, or a node port alone: those hold on any address."""
    found = [address + port.port for address in (port.cluster_ip, *port.outside_ips)]
    return [*found, port.node_port] if port.node_port else found


class Left(NamedTuple):
    """Flows by what versions up to 1.31 give the `conntrack` tool to delete (CT-02); any port of an address.

    `reached`: addresses, or node ports (2 bytes); `translated`: one of these, and the address of an
    endpoint that is gone.
    """

    reached: frozenset[bytes]
    translated: frozenset[tuple[bytes, Address]]

    def __call__(self, destination: Target, replier: Target) -> bool:
        address, port, end = destination[:-2], destination[-2:], replier[:-2]
        if address in self.reached or port in self.reached:
            return True
        return destination != replier and ((address, end) in self.translated or (port, end) in self.translated)


def what_left(changes: Iterable[Change]) -> Stale | None:
    """What these changes alone made stale."""
    reached: set[bytes] = set()
    translated: set[tuple[bytes, Address]] = set()
    for _, old_ports, new_ports in changes:
        reached |= {old.cluster_ip for name, old in old_ports.items() if name not in new_ports}
        for name, new in new_ports.items():
            old = old_ports.get(name)
            at = {new.cluster_ip, *new.outside_ips, new.node_port} - {b""}
            if new.serving and not (old and old.serving):
                reached |= at
            gone = old.serving - new.listed if old else ()
            translated |= {(where, target[:-2]) for target in gone for where in at}
    return Left(frozenset(reached), frozenset(translated)) if reached or translated else None
