"""Decides which UDP flows are stale, i.e. go where the rules would not send a new flow (CT); pure.

    plans and slices of changed Services -> FlowTracker.update -> Stale, or None: nothing can be stale
                                                                    |
                                        engine.kernel.conntrack <---+  calls it for every UDP flow

Only UDP flows can be stale (CT-01).  A UDP client that reuses its source port keeps its conntrack entry
alive, and with it an endpoint that may no longer exist.  TCP and SCTP are left alone: their peers
detect the loss (by a reset or an unanswered heartbeat) and reconnect, while deleting the entry of a live
connection would break it, in particular those to draining endpoints.

This differs from every version of kube-proxy: flows of removed Services, ports and addresses, of ports without
endpoints, and to endpoints that a policy no longer allows are removed as well; those of node ports only on addresses
that accept node ports.  A draining endpoint keeps its flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from engine.backends.claims import Claims, Wanted
from engine.config import ProxyConfig
from engine.dataplane import PortPlan
from engine.model import UDP, Address, EndpointSlice, HostAddresses, Name, Target
from engine.modes import Mode
from engine.tracking import ClusterState, endpoints_of


class Stale(Protocol):
    """Whether a flow is stale, given its original destination and its replier, each a packed address and port."""

    def __call__(self, destination: Target, replier: Target) -> bool: ...


class Reach(NamedTuple):
    """One UDP service port of one family: who may answer at its cluster IP, and at its external destinations.

    `inside` is a packed address and port; `outside` are such values, and the node port alone (2 bytes).
    """

    inside: Target
    outside: tuple[bytes, ...]
    answers_inside: frozenset[Target]
    answers_outside: frozenset[Target]


class FlowTracker:
    """The valid flows of one family, updated per Service."""

    def __init__(self, family: int, config: ProxyConfig, mode: Mode) -> None:
        self._family, self._config, self._mode = family, config, mode
        self._ports: dict[Name, dict[str, Reach]] = {}
        self._claims: Claims[tuple[bytes], frozenset[Target]] = Claims()
        self._serving: dict[bytes, frozenset[Target]] = {}
        self._taking: frozenset[Address] = frozenset()
        self._gone: set[bytes] = set()
        self._left: set[Address] = set()
        self._owed = False

    def update(
        self,
        state: ClusterState,
        dirty: Iterable[Name],
        plans: Mapping[Name, tuple[PortPlan, ...]],
        host: HostAddresses,
        whole: bool = False,
    ) -> Stale | None:
        """Update the dirty Services; returns the test for stale flows, or None if no flow can have become stale.

        `whole`: the sync was a full one, so flows may be older than the rules.
        """
        for name in dirty:
            udp = [plan for plan in plans.get(name, ()) if plan.protocol == UDP]
            if not udp and name not in self._ports:
                continue
            new = self._reaches(name, state, udp)
            if new != self._ports.pop(name, {}):
                self._claims.replace(name, _wanted(name, new))
            if new:
                self._ports[name] = new
        changed = self._settle() | self._move(_taking_node_ports(self._family, self._config, self._mode, host))
        self._owed = self._owed or changed or (whole and bool(self._serving))
        return self._is_stale if self._owed else None

    def reconfigure(self, config: ProxyConfig) -> None:
        """Use another configuration from now on."""
        self._config = config

    def cleaned(self) -> None:
        """All stale flows have been removed; until this is called, every update looks for them."""
        self._owed = False
        self._gone.clear()
        self._left.clear()

    def _reaches(self, name: Name, state: ClusterState, plans: list[PortPlan]) -> dict[str, Reach]:
        slices = state.slices.get(name, {})
        return {plan.name: self._reach(plan, slices, state.node_name) for plan in plans}

    def _reach(self, plan: PortPlan, slices: dict[str, EndpointSlice], node: str | None) -> Reach:
        endpoints = endpoints_of(slices, self._family, plan.name, UDP, node, self._config.version)
        draining = [target for target, endpoint in endpoints.items() if endpoint.serving and endpoint.terminating]
        port = plan.port.to_bytes(2, "big")
        node_port = (plan.node_port.to_bytes(2, "big"),) if plan.node_port else ()
        return Reach(
            plan.cluster_ip + port,
            (*(address + port for address in plan.external_ips + plan.load_balancer_ips), *node_port),
            frozenset((*(plan.local if plan.internal_local else plan.cluster), *draining)),
            # Pods and the node itself may use all endpoints even if policy Local restricts others to this node.
            frozenset((*plan.cluster, *(plan.local if plan.external_local else ()), *draining)),
        )

    def _settle(self) -> bool:
        """Apply the pending claims; returns whether anything changed."""
        changed = False
        for (key,), _, serving in self._claims.settle():
            changed = True
            if serving is None:
                del self._serving[key]
                self._gone.add(key)
            else:
                self._serving[key] = serving
                self._gone.discard(key)
        return changed

    def _move(self, taking: frozenset[Address]) -> bool:
        """Set the addresses that accept node ports; returns whether this can make flows stale."""
        if taking == self._taking:
            return False
        self._left |= self._taking - taking
        self._left -= taking
        self._taking = taking
        return any(len(key) == 2 for key in self._serving)

    def _is_stale(self, destination: Target, replier: Target) -> bool:
        # A Service's own address takes precedence over a node port of the same number.
        serving = self._serving.get(destination)
        if serving is None and destination[:-2] in self._taking:
            serving = self._serving.get(destination[-2:])
        if serving is None and replier != destination:  # a flow without translation is not ours
            return self._was_ours(destination)
        return serving is not None and replier not in serving

    def _was_ours(self, destination: Target) -> bool:
        address, port = destination[:-2], destination[-2:]
        if destination in self._gone:
            return True
        if address in self._taking:
            return port in self._gone
        return address in self._left and (port in self._gone or port in self._serving)


def _wanted(service: Name, ports: dict[str, Reach]) -> Wanted[tuple[bytes], frozenset[Target]]:
    wanted: Wanted[tuple[bytes], frozenset[Target]] = {}
    for name, port in ports.items():
        # As in the rules, Services with endpoints take precedence.
        wanted[(port.inside,), (not port.answers_inside, service, name)] = port.answers_inside
        for key in port.outside:
            wanted[(key,), (not port.answers_outside, service, name)] = port.answers_outside
    return wanted


def _taking_node_ports(family: int, config: ProxyConfig, mode: Mode, host: HostAddresses) -> frozenset[Address]:
    """This machine's addresses that accept node ports: by default all, in nftables the node's own (NP-01 to NP-03)."""
    loopback = mode.node_ports_on_loopback and family == 4 and config.localhost_node_ports
    return config.taking_node_ports(family, (*host.local, *host.node), host.node, mode.node_ports_on, loopback)
