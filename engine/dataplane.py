"""The desired state of one node, independent of any backend: for each service port, who may go where.

A `PortPlan` is complete: a backend needs nothing else to program the port, and equal plans
need no update.  It is computed for changed Services only, from `ClusterState`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from engine.addresses import contains
from engine.config import ProxyConfig
from engine.model import ADDRESS_BYTES, Address, EndpointSlice, Name, Network, Service, ServicePort, Target
from engine.topology import Hints, select
from engine.tracking import ClusterState, endpoints_of


class PortPlan(msgspec.Struct, frozen=True, gc=False):
    """One service port in one family. `allowed` restricts the load balancer addresses; None means unrestricted.

    `cluster` and `local` are sorted targets; `any_usable` decides between drop and reject.
    `health_check_node_port` is that of the Service, 0 if it has none.  `on_node` are this node's
    endpoints, ready or not (HAIR-02).
    """

    name: str
    protocol: int
    port: int
    node_port: int
    cluster_ip: Address
    external_ips: tuple[Address, ...]
    load_balancer_ips: tuple[Address, ...]
    allowed: tuple[Network, ...] | None
    internal_local: bool
    external_local: bool
    cluster: tuple[Target, ...]
    local: tuple[Target, ...]
    any_usable: bool
    affinity_seconds: int
    health_check_node_port: int = 0
    on_node: tuple[Target, ...] = ()


class PlanChange(msgspec.Struct, frozen=True, gc=False):
    """A Service's plans before and after; an empty tuple means not programmed."""

    service: Name
    old: tuple[PortPlan, ...]
    new: tuple[PortPlan, ...]


class Dataplane:
    """Plans of every Service for one family, updated incrementally."""

    def __init__(self, family: int, config: ProxyConfig) -> None:
        self.family = family
        self._config = config
        self.plans: dict[Name, tuple[PortPlan, ...]] = {}
        self.unplanned: dict[Name, str] = {}
        """Services that could not be planned, and why; other Services are not affected."""
        self._bare_ports = {"internal": 0, "external": 0}
        self._bare_services = {"internal": 0, "external": 0}

    def update(self, state: ClusterState, dirty: list[Name]) -> list[PlanChange]:
        """Recompute the dirty Services and return those whose plans differ."""
        return [change for name in dirty if (change := self.replan(name, state))]

    def replan(self, name: Name, state: ClusterState) -> PlanChange | None:
        """Recompute one Service; None if its plans do not differ."""
        old = self.plans.get(name, ())
        new = self._plan(name, state)
        if new == old:
            return None
        if new:
            self.plans[name] = new
        else:
            del self.plans[name]
        self._count_bare(old, -1)
        self._count_bare(new, 1)
        return PlanChange(name, old, new)

    def _plan(self, name: Name, state: ClusterState) -> tuple[PortPlan, ...]:
        if self.unplanned:
            self.unplanned.pop(name, None)
        service = state.services.get(name)
        try:
            return plan_service(service, state, self.family, self._config) if service else ()
        except Exception as error:  # an error in one Service must not affect the others
            self.unplanned[name] = f"cannot be planned: {type(error).__name__}: {error}"
            return ()

    def reconfigure(self, config: ProxyConfig) -> None:
        """Use another configuration from now on; the caller must have every Service planned again."""
        self._config = config

    def everything(self) -> list[PlanChange]:
        """The plans of every Service, as changes from nothing."""
        return [PlanChange(name, (), self.plans[name]) for name in sorted(self.plans)]

    def without_local_endpoints(self, by_service: bool = False) -> dict[str, int]:
        """Number of ports, or Services, of policy Local with usable endpoints but none on this node (MET-05)."""
        return dict(self._bare_services if by_service else self._bare_ports)

    def _count_bare(self, plans: tuple[PortPlan, ...], sign: int) -> None:
        """Add or subtract a Service's share: counting all Services again would cost more than a sync."""
        bare = [p for p in plans if (p.internal_local or p.external_local) and p.any_usable and not p.local]
        if not bare:
            return
        for policy, found in (
            ("internal", sum(plan.internal_local for plan in bare)),
            ("external", sum(plan.external_local for plan in bare)),
        ):
            self._bare_ports[policy] += sign * found
            self._bare_services[policy] += sign * min(found, 1)


def plan_service(service: Service, state: ClusterState, family: int, config: ProxyConfig) -> tuple[PortPlan, ...]:
    """Plans of all ports, in the order of the spec; empty without a cluster IP of the family (SVC-04)."""
    size = ADDRESS_BYTES[family]
    cluster_ips = [ip for ip in service.cluster_ips if len(ip) == size]
    if not cluster_ips:
        return ()
    external, listed = service.external_ips, service.load_balancer_ips
    if external and not config.gate("AllowServiceExternalIPs"):
        external = ()
    if service.bypassed_ips and not config.gate("LoadBalancerIPMode"):
        listed += service.bypassed_ips
    reach = _Reach(cluster_ips[0], _of_size(external, size), _of_size(listed, size))
    allowed = _allowed(service, state, config, size, reach.balancers) if service.source_ranges else None
    hints = hints_of(service, state.node_name, state.node.zone if state.node else "", config)
    slices, node = state.slices.get(service.name, {}), state.node_name
    plans = [
        _plan_port(service, port, slices, family, node, reach, allowed, hints, config.version) for port in service.ports
    ]
    return tuple(plans)


def _of_size(addresses: tuple[Address, ...], size: int) -> tuple[Address, ...]:
    return tuple([ip for ip in addresses if len(ip) == size]) if addresses else ()


class _Reach(msgspec.Struct, frozen=True, gc=False):
    """The addresses of a Service in one family."""

    cluster_ip: Address
    external: tuple[Address, ...]
    balancers: tuple[Address, ...]


def hints_of(service: Service, node: str | None, zone: str, config: ProxyConfig) -> Hints:
    """The hints that a node uses, depending on feature gates and the topology annotation (TOPO-03, TOPO-05)."""
    if not config.gate("TopologyAwareHints"):
        return Hints()
    if not config.gate("ServiceTrafficDistribution") and service.topology_mode in ("", "disabled", "Disabled"):
        return Hints()
    return Hints((node or "") if config.gate("PreferSameTrafficDistribution") else "", zone)


def _plan_port(
    service: Service,
    port: ServicePort,
    slices: dict[str, EndpointSlice],
    family: int,
    node: str | None,
    reach: _Reach,
    allowed: tuple[Network, ...] | None,
    hints: Hints,
    version: tuple[int, int],
) -> PortPlan:
    accessible = bool(port.node_port or reach.external or reach.balancers)
    external_local = service.external_local and accessible
    endpoints = endpoints_of(slices, family, port.name, port.protocol, node, version)
    on_node = [target for target, endpoint in endpoints.items() if endpoint.node == node] if node else []
    selection = select(
        endpoints,
        node,
        hints,
        cluster=accessible or not service.internal_local,
        local=service.internal_local or external_local,
    )
    return PortPlan(
        port.name, port.protocol, port.port, port.node_port,
        reach.cluster_ip, reach.external, reach.balancers, allowed,
        service.internal_local, external_local,
        selection.cluster, selection.local, selection.any_usable,
        service.affinity_seconds, service.health_check_node_port, tuple(sorted(on_node)),
    )  # fmt: skip


def _allowed(
    service: Service, state: ClusterState, config: ProxyConfig, size: int, balancers: tuple[Address, ...]
) -> tuple[Network, ...] | None:
    """Source ranges of the family, plus the load balancer addresses if this node is in one of them (LB-03)."""
    ranges = tuple(n for n in service.source_ranges if len(n.address) == size)
    if not ranges:
        return None
    if within(ranges, config.host(state.node).node, size):
        ranges += tuple(Network(ip, 8 * size) for ip in balancers)
    return ranges


def within(ranges: Iterable[Network], node_addresses: tuple[Address, ...], size: int) -> bool:
    """Whether source ranges of a family contain this node's address, the first one of the family."""
    node_ips = [a for a in node_addresses if len(a) == size]
    return any(contains(network, ip) for network in ranges for ip in node_ips[:1])


def of_node(
    plan: PortPlan,
    on_node: tuple[Target, ...],
    local: tuple[Target, ...],
    node_addresses: tuple[Address, ...],
    cluster: tuple[Target, ...] | None = None,
) -> PortPlan:
    """The plan of a node with these endpoints and addresses, from that of a node of its zone that has neither.

    `cluster` is its cluster-wide set, if hints for nodes make it another one.
    """
    allowed, size = plan.allowed, len(plan.cluster_ip)
    if allowed and within(allowed, node_addresses, size):
        allowed += tuple(Network(ip, 8 * size) for ip in plan.load_balancer_ips)
    cluster = plan.cluster if cluster is None else cluster
    return msgspec.structs.replace(plan, on_node=on_node, local=local, allowed=allowed, cluster=cluster)
