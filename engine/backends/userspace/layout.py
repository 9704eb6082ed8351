"""Computes what each Service needs from the proxy, and the program from one sync to the next.

PortPlan -> wanted (endpoint sets, rules, sources, addresses) -> Claims -> what differs -> program
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from engine.addresses import collapse, format_address, format_network, is_link_local, socket_text
from engine.backends.claims import Claims, Owner, Wanted
from engine.backends.interface import NOTHING_DEGRADED
from engine.backends.userspace.program import (
    EndpointSet,
    Rule,
    UserspaceProgram,
    frontend_name,
)
from engine.config import ProxyConfig
from engine.dataplane import PlanChange, PortPlan
from engine.model import PROTOCOL_NAMES, SCTP, Address, HostAddresses, Name, Network

_CLUSTER_IP, _OUTSIDE_IP, _RULE, _SET, _SOURCE = "cluster-ip", "outside-ip", "rule", "set", "source"
"""Kinds of claims."""


_Wanted = Wanted[tuple[Any, ...], Any]
_Value = TypeVar("_Value")


class _Differing(Generic[_Value]):
    """Items of one kind that are new or changed, and that are removed, by name."""

    def __init__(self) -> None:
        self.now: dict[str, _Value] = {}
        self.gone: list[str] = []

    def note(self, name: str, value: _Value | None) -> None:
        if value is None:
            self.gone.append(name)
        else:
            self.now[name] = value


class UserspaceBackend:
    """The state of one family's proxy; turns dataplane changes into programs."""

    mode = "userspace"
    degraded = NOTHING_DEGRADED

    def __init__(self, family: int, config: ProxyConfig) -> None:
        self.family = family
        self._config = config
        self._claims: Claims[tuple[Any, ...], Any] = Claims()
        self._first = True
        self._sources: dict[str, set[Network]] = {}
        self._cluster_ips: set[Address] = set()
        self._outside_ips: set[Address] = set()
        self._held: set[Address] = set()
        self._moved = False
        self._local: frozenset[Address] = frozenset()
        self._node_addresses: tuple[str, ...] = ()

    def plan(self, changes: list[PlanChange], host: HostAddresses) -> UserspaceProgram:
        """The program from the state of the last call to this one; falsy if nothing differs."""
        for change in changes:
            self._claims.replace(change.service, _wanted(change.service, change.new))
        sets, rules, allowed = self._settle()
        added, deleted = self._addresses(host)
        pods = _text(self._config.pods(self.family)) if self._first else None
        before, self._node_addresses = self._node_addresses, self._taking_node_ports(host)
        taking = self._node_addresses if self._first or before != self._node_addresses else None
        self._first = False
        return UserspaceProgram(
            family=self.family,
            pods=pods,
            node_addresses=taking,
            addresses_added=added,
            addresses_deleted=deleted,
            sets=sets.now,
            rules=rules.now,
            allowed=allowed,
            rules_deleted=tuple(rules.gone),
            sets_deleted=tuple(sets.gone),
        )

    def _settle(self) -> tuple[_Differing[EndpointSet], _Differing[Rule], dict[str, tuple[str, ...]]]:
        """The program's sets, rules and sources; addresses are stored for `_addresses`."""
        sets: _Differing[EndpointSet] = _Differing()
        rules: _Differing[Rule] = _Differing()
        sources: set[str] = set()
        for (kind, *key), _, value in self._claims.settle():
            if kind == _SET:
                sets.note(key[0], value)
            elif kind == _RULE:
                rules.note(key[0], value)
            elif kind == _SOURCE:
                name, network = key
                sources.add(name)
                networks = self._sources.setdefault(name, set())
                (networks.add if value else networks.discard)(network)
            else:
                addresses = self._cluster_ips if kind == _CLUSTER_IP else self._outside_ips
                (addresses.add if value else addresses.discard)(key[0])
                self._moved = True
        return sets, rules, {name: self._allowed(name) for name in sorted(sources)}

    def _allowed(self, name: str) -> tuple[str, ...]:
        if not self._sources[name]:
            del self._sources[name]
            return ()
        return tuple(map(_text, sorted(self._sources[name])))

    def _addresses(self, host: HostAddresses) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Local addresses to add and delete; an external one only if the host does not have it."""
        local = frozenset(host.local)
        if not self._moved and local == self._local:
            return (), ()
        self._moved, self._local = False, local
        wanted = self._cluster_ips | (self._outside_ips - self._local)
        added, deleted = sorted(wanted - self._held), sorted(self._held - wanted)
        self._held = wanted
        return tuple(map(format_address, added)), tuple(map(format_address, deleted))

    def _taking_node_ports(self, host: HostAddresses) -> tuple[str, ...]:
        """All local addresses but loopback, or those selected by nodePortAddresses (NP-01)."""
        taking = self._config.taking_node_ports(self.family, host.local, host.node)
        return tuple(map(format_address, sorted(a for a in taking if not is_link_local(a))))


def _text(network: Network | None) -> str:
    return format_network(network) if network else ""


def _wanted(service: Name, plans: tuple[PortPlan, ...]) -> _Wanted:
    """Everything that one Service needs."""
    wanted: _Wanted = {}
    for plan in plans:
        owner = (service, plan.name, plan.protocol)
        cluster, local = _sets(plan, owner, wanted)
        internal = local if plan.internal_local else cluster
        external = Rule(cluster or local, local) if plan.external_local else Rule(cluster, cluster)
        _frontend(plan.cluster_ip, plan, Rule(internal, internal), owner, wanted)
        wanted[(_CLUSTER_IP, plan.cluster_ip), owner] = True
        for ip in plan.external_ips + plan.load_balancer_ips:
            _frontend(ip, plan, external, owner, wanted)
            wanted[(_OUTSIDE_IP, ip), owner] = True
        for ip in plan.load_balancer_ips if plan.allowed is not None else ():
            for network in collapse(plan.allowed or ()):
                wanted[(_SOURCE, frontend_name(ip, plan.protocol, plan.port), network), owner] = True
        if plan.node_port:
            wanted[(_RULE, frontend_name(None, plan.protocol, plan.node_port)), owner] = external
    return wanted


def _sets(plan: PortPlan, owner: Owner, wanted: _Wanted) -> tuple[str | None, str | None]:
    """Names of the port's cluster-wide and local endpoint sets, None for an empty one.

    Python's event loop does not support SCTP, nor did the historical mode: such a port is rejected.
    """
    if plan.protocol == SCTP:
        return None, None
    names = []
    for kind, targets in (("cluster", plan.cluster), ("local", plan.local)):
        name = f"{owner[0]}:{plan.name}/{PROTOCOL_NAMES[plan.protocol]} {kind}"
        if targets:
            wanted[(_SET, name), owner] = EndpointSet(tuple(map(socket_text, targets)), plan.affinity_seconds)
        names.append(name if targets else None)
    return names[0], names[1]


def _frontend(ip: Address, plan: PortPlan, rule: Rule, owner: Owner, wanted: _Wanted) -> None:
    """One address of the port; the cluster IP is added first and takes precedence."""
    wanted.setdefault(((_RULE, frontend_name(ip, plan.protocol, plan.port)), owner), rule)
