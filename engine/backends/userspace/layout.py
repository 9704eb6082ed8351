"""What each Service wants of the proxy, and the program from one sync to the next.

PortPlan -> wanted (endpoint sets, rules, sources, addresses) -> Claims -> what differs -> program
"""

from __future__ import annotations

from engine.addresses import collapse, contains, format_address
from engine.backends.claims import Claims, Owner, Wanted
from engine.backends.userspace.program import (
    PROTOCOL_NAMES,
    EndpointSet,
    Rule,
    UserspaceProgram,
    frontend_name,
    target_name,
)
from engine.config import ProxyConfig
from engine.dataplane import Change, PortPlan
from engine.model import ADDRESS_BYTES, SCTP, Address, HostAddresses, Name, Network

_CLUSTER_IP, _OUTSIDE_IP, _RULE, _SET, _SOURCE = "cluster-ip", "outside-ip", "rule", "set", "source"
_UNFIT = (Network(bytes((127, 0, 0, 0)), 8), Network(bytes(15) + b"\1", 128), Network(b"\xfe\x80" + bytes(14), 10))
"""Loopback and IPv6 link-local addresses, which take no node ports."""


class UserspaceBackend:
    """Keeps what one family's proxy holds and turns dataplane changes into programs."""

    mode = "userspace"

    def __init__(self, family: int, config: ProxyConfig) -> None:
        self.family = family
        self._config = config
        self._claims = Claims()
        self._first = True
        self._sources: dict[str, set[Network]] = {}
        self._cluster_ips: set[Address] = set()
        self._outside_ips: set[Address] = set()
        self._held: set[Address] = set()
        self._moved = False
        self._local: frozenset[Address] = frozenset()
        self._node_addresses: tuple[str, ...] = ()

    def plan(self, changes: list[Change], host: HostAddresses) -> UserspaceProgram:
        """The program from the last plan to this one; falsy when nothing differs."""
        for change in changes:
            self._claims.replace(change.service, _wanted(change.service, change.new))
        fields = self._settle()
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
            **fields,
        )

    def _settle(self) -> dict:
        """The program's sets, rules and sources; addresses are noted for `_addresses`."""
        now: dict[str, dict] = {_RULE: {}, _SET: {}}
        gone: dict[str, list[str]] = {_RULE: [], _SET: []}
        sources: set[str] = set()
        for (kind, *key), _, value in self._claims.settle():
            if kind in now:
                if value is None:
                    gone[kind].append(key[0])
                else:
                    now[kind][key[0]] = value
            elif kind == _SOURCE:
                name, network = key
                sources.add(name)
                listed = self._sources.setdefault(name, set())
                (listed.add if value else listed.discard)(network)
            else:
                listed = self._cluster_ips if kind == _CLUSTER_IP else self._outside_ips
                (listed.add if value else listed.discard)(key[0])
                self._moved = True
        return {
            "sets": now[_SET],
            "rules": now[_RULE],
            "allowed": {name: self._allowed(name) for name in sorted(sources)},
            "rules_deleted": tuple(gone[_RULE]),
            "sets_deleted": tuple(gone[_SET]),
        }

    def _allowed(self, name: str) -> tuple[str, ...]:
        if not self._sources[name]:
            del self._sources[name]
            return ()
        return tuple(map(_text, sorted(self._sources[name])))

    def _addresses(self, host: HostAddresses) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Local addresses to add and delete; one from outside the cluster only if the host lacks it."""
        local = frozenset(host.local)
        if not self._moved and local == self._local:
            return (), ()
        self._moved, self._local = False, local
        wanted = self._cluster_ips | (self._outside_ips - self._local)
        added, deleted = sorted(wanted - self._held), sorted(self._held - wanted)
        self._held = wanted
        return tuple(map(format_address, added)), tuple(map(format_address, deleted))

    def _taking_node_ports(self, host: HostAddresses) -> tuple[str, ...]:
        """All local addresses but loopback, or those that nodePortAddresses names (NP-01)."""
        size = ADDRESS_BYTES[self.family]
        networks = self._config.node_port_networks(self.family)
        asked = self._config.node_port_addresses
        taken = host.node if asked and networks is None else host.local
        ours = {
            a
            for a in taken
            if len(a) == size
            and not any(contains(network, a) for network in _UNFIT)
            and (not networks or any(contains(network, a) for network in networks))
        }
        return tuple(map(format_address, sorted(ours)))


def _text(network: Network | None) -> str:
    return f"{format_address(network.address)}/{network.prefix}" if network else ""


def _wanted(service: Name, plans: tuple[PortPlan, ...]) -> Wanted:
    """Everything that one Service asks for."""
    wanted: Wanted = {}
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
            for network in collapse(plan.allowed):
                wanted[(_SOURCE, frontend_name(ip, plan.protocol, plan.port), network), owner] = True
        if plan.node_port:
            wanted[(_RULE, frontend_name(None, plan.protocol, plan.node_port)), owner] = external
    return wanted


def _sets(plan: PortPlan, owner: Owner, wanted: Wanted) -> tuple[str | None, str | None]:
    """Names of the port's cluster-wide and local endpoint sets, None where there is nobody.

    Python's event loop speaks no SCTP, nor did the historical mode: such a port is refused.
    """
    if plan.protocol == SCTP:
        return None, None
    names = []
    for kind, targets in (("cluster", plan.cluster), ("local", plan.local)):
        name = f"{owner[0]}:{plan.name}/{PROTOCOL_NAMES[plan.protocol]} {kind}"
        if targets:
            wanted[(_SET, name), owner] = EndpointSet(tuple(map(target_name, targets)), plan.affinity_seconds)
        names.append(name if targets else None)
    return names[0], names[1]


def _frontend(ip: Address, plan: PortPlan, rule: Rule, owner: Owner, wanted: Wanted) -> None:
    """One address of the port; a Service's cluster IP is asked for first and stays."""
    wanted.setdefault(((_RULE, frontend_name(ip, plan.protocol, plan.port)), owner), rule)
