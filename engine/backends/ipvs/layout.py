"""Computes what each Service needs in IP_VS and the ipsets, and the program from one sync to the next.

PortPlan -> wanted (servers, addresses, entries) -> Claims -> differences -> IpvsProgram
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.addresses import collapse, contains, format_address, is_link_local, split_target
from engine.backends.claims import Claims, Owner, Wanted
from engine.backends.interface import NOTHING_DEGRADED
from engine.backends.ipvs import sets
from engine.backends.ipvs.program import (
    PERSISTENT,
    SCHEDULER_PORT,
    Entry,
    IpvsProgram,
    ServerKey,
    Start,
    VirtualServer,
    server_key,
)
from engine.backends.ipvs.rules import JUMPS, rules
from engine.backends.ipvs.sets import ip_port
from engine.config import ProxyConfig
from engine.dataplane import PlanChange, PortPlan
from engine.model import ADDRESS_BYTES, SCTP, Address, HostAddresses, Name, Network, Target

_ADDRESS, _ENTRY, _REFUSED, _SERVER = "address", "entry", "refused", "server"
_Wanted = Wanted[tuple[Any, ...], Any]
_Server = tuple[VirtualServer, tuple[Target, ...]]


class IpvsBackend:
    """The programmed state of one family; turns dataplane changes into programs."""

    mode = "ipvs"
    degraded = NOTHING_DEGRADED

    def __init__(self, family: int, config: ProxyConfig) -> None:
        self.family = family
        self._config = config
        self._claims: Claims[tuple[Any, ...], Any] = Claims()
        self._started = False
        self._on_host: dict[Name, tuple[PortPlan, ...]] = {}
        self._local: frozenset[Address] = frozenset()
        self._node_port_ips: tuple[Address, ...] = ()
        self._filled: dict[str, int] = {}
        self._refused: set[bytes] = set()
        self._rules = ""

    def plan(self, changes: list[PlanChange], host: HostAddresses) -> IpvsProgram:
        """The program from the state of the last call to this one, at first with the fixed parts; falsy if empty."""
        moved = self._see_host(host)
        changed = {change.service: change.new for change in changes}
        # A Service depends on the host's addresses only for destinations other than its cluster IP.
        again = {name: plans for name, plans in self._on_host.items() if name not in changed} if moved else {}
        for name, plans in (changed | again).items():
            self._claims.replace(name, self._wanted(name, plans))
            if any(plan.node_port or plan.external_ips or plan.load_balancer_ips for plan in plans):
                self._on_host[name] = plans
            else:
                self._on_host.pop(name, None)
        return self._program()

    def _see_host(self, host: HostAddresses) -> bool:
        """Whether the addresses that node ports and external addresses depend on have changed."""
        size = ADDRESS_BYTES[self.family]
        local = frozenset(address for address in host.local if len(address) == size)
        moved, self._local = local != self._local, local
        taking = self._config.taking_node_ports(self.family, local, host.node)  # NP-02, NP-07
        self._node_port_ips = tuple(sorted(a for a in taking if not is_link_local(a)))
        return moved

    def _wanted(self, service: Name, plans: tuple[PortPlan, ...]) -> _Wanted:
        wanted: _Wanted = {}
        for plan in plans:
            owner = (service, plan.name, plan.protocol)
            self._cluster_ip(plan, owner, wanted)
            for ip in plan.external_ips:
                self._external_ip(ip, plan, owner, wanted)
            for ip in plan.load_balancer_ips:
                self._load_balancer_ip(ip, plan, owner, wanted)
            if plan.node_port and self._node_port_ips:
                self._node_port(plan, owner, wanted)
            if plan.health_check_node_port:
                wanted[(_ENTRY, sets.HEALTH_CHECK, str(plan.health_check_node_port)), owner] = True
        return wanted

    def _cluster_ip(self, plan: PortPlan, owner: Owner, wanted: _Wanted) -> None:
        ip = plan.cluster_ip
        wanted[(_SERVER, server_key(ip, plan.protocol, plan.port)), owner] = self._server(
            plan, _targets(plan, plan.internal_local)
        )
        wanted[(_ADDRESS, ip), owner] = True
        wanted[(_ENTRY, sets.CLUSTER_IP, ip_port(ip, plan.protocol, plan.port)), owner] = True
        for target in plan.on_node:
            address, port = split_target(target)
            entry = f"{sets.ip_port(address, plan.protocol, port)},{format_address(address)}"
            wanted[(_ENTRY, sets.LOOP_BACK, entry), owner] = True

    def _external_ip(self, ip: Address, plan: PortPlan, owner: Owner, wanted: _Wanted) -> None:
        self._outside(ip, plan, owner, wanted)
        name = sets.EXTERNAL_IP_LOCAL if plan.external_local else sets.EXTERNAL_IP
        wanted[(_ENTRY, name, ip_port(ip, plan.protocol, plan.port)), owner] = True

    def _load_balancer_ip(self, ip: Address, plan: PortPlan, owner: Owner, wanted: _Wanted) -> None:
        self._outside(ip, plan, owner, wanted)
        entry = ip_port(ip, plan.protocol, plan.port)
        names = [sets.LOAD_BALANCER]
        if plan.external_local:
            names.append(sets.LOAD_BALANCER_LOCAL)
        if plan.allowed is not None:
            names.append(sets.LOAD_BALANCER_FW)
            self._source_ranges(ip, entry, plan, owner, wanted)
        for name in names:
            wanted[(_ENTRY, name, entry), owner] = True

    def _source_ranges(self, ip: Address, entry: str, plan: PortPlan, owner: Owner, wanted: _Wanted) -> None:
        """The allowed sources of a load balancer address; the node, which uses it as source, only if listed."""
        balancers = {Network(address, 8 * len(address)) for address in plan.load_balancer_ips}
        allowed = plan.allowed or ()
        for network in collapse(allowed):
            name = sets.SOURCE_IP if network in balancers else sets.SOURCE_CIDR
            for source in sets.sources(entry, (network,)):
                wanted[(_ENTRY, name, source), owner] = True
        if not any(contains(network, ip) for network in allowed):
            wanted[(_REFUSED, server_key(ip, plan.protocol, plan.port)), owner] = True

    def _outside(self, ip: Address, plan: PortPlan, owner: Owner, wanted: _Wanted) -> None:
        """An external address: on the dummy device unless the host already has it (IPVS-01)."""
        key = server_key(ip, plan.protocol, plan.port)
        wanted.setdefault(((_SERVER, key), owner), self._server(plan, _targets(plan, plan.external_local)))
        if ip not in self._local:
            wanted[(_ADDRESS, ip), owner] = True

    def _node_port(self, plan: PortPlan, owner: Owner, wanted: _Wanted) -> None:
        names = [sets.NODE_PORT[plan.protocol]]
        if plan.external_local:
            names.append(sets.NODE_PORT_LOCAL[plan.protocol])
        server = self._server(plan, _targets(plan, plan.external_local))
        for ip in self._node_port_ips:
            wanted.setdefault(((_SERVER, server_key(ip, plan.protocol, plan.node_port)), owner), server)
            entry = ip_port(ip, SCTP, plan.node_port) if plan.protocol == SCTP else str(plan.node_port)
            for name in names:
                wanted[(_ENTRY, name, entry), owner] = True

    def _server(self, plan: PortPlan, targets: tuple[Target, ...]) -> _Server:
        scheduler = self._config.ipvs_scheduler
        flags = SCHEDULER_PORT if scheduler == "mh" else 0
        if plan.affinity_seconds:
            return VirtualServer(scheduler, flags | PERSISTENT, plan.affinity_seconds), targets
        return VirtualServer(scheduler, flags), targets

    def _program(self) -> IpvsProgram:
        parts = _Parts()
        for key, before, now in self._claims.settle():
            if key[0] == _SERVER:
                parts.server(key[1], before, now)
            elif key[0] == _REFUSED:
                (self._refused.add if now else self._refused.discard)(key[1])
            elif key[0] == _ENTRY:
                parts.entry(key[1], key[2], bool(now))
            else:
                parts.address(key[1], bool(now))
        self._count(parts.entries_added, 1)
        self._count(parts.entries_deleted, -1)
        start = None if self._started else self._start()
        self._started = True
        return parts.program(self.family, start, self._new_rules())

    def _count(self, entries: Iterable[tuple[str, str]], by: int) -> None:
        for name, _ in entries:
            self._filled[name] = self._filled.get(name, 0) + by

    def _new_rules(self) -> str:
        filled = frozenset(name for name, count in self._filled.items() if count)
        text = rules(self.family, self._config, filled, tuple(sorted(self._refused)))
        if text == self._rules:
            return ""
        self._rules = text
        return text

    def _start(self) -> Start:
        config = self._config
        sysctls = [
            ("net.ipv4.vs.conntrack", "1"),
            ("net.ipv4.vs.expire_nodest_conn", "1"),
            ("net.ipv4.vs.expire_quiescent_template", "1"),
            ("net.ipv4.ip_forward" if self.family == 4 else "net.ipv6.conf.all.forwarding", "1"),
        ]
        if config.ipvs_strict_arp:
            sysctls += [("net.ipv4.conf.all.arp_ignore", "1"), ("net.ipv4.conf.all.arp_announce", "2")]
        timeouts = (
            config.ipvs_tcp_timeout_seconds,
            config.ipvs_tcp_fin_timeout_seconds,
            config.ipvs_udp_timeout_seconds,
        )
        excluded = tuple(n for n in config.ipvs_exclude_networks if len(n.address) == ADDRESS_BYTES[self.family])
        return Start(tuple(sysctls), timeouts, excluded, JUMPS)


def _targets(plan: PortPlan, local: bool) -> tuple[Target, ...]:
    """Policy Local without local endpoints falls back to all endpoints, unlike in other modes (ETP-06)."""
    return plan.local if local and plan.local else plan.cluster


class _Parts:
    """Collects the operations of a program."""

    def __init__(self) -> None:
        self.entries_added: list[Entry] = []
        self.entries_deleted: list[Entry] = []
        self._addresses: dict[bool, list[Address]] = {True: [], False: []}
        self._added: list[tuple[ServerKey, VirtualServer]] = []
        self._changed: list[tuple[ServerKey, VirtualServer]] = []
        self._deleted: list[ServerKey] = []
        self._destinations: dict[bool, list[tuple[ServerKey, Target]]] = {True: [], False: []}

    def entry(self, name: str, entry: str, there: bool) -> None:
        (self.entries_added if there else self.entries_deleted).append((name, entry))

    def address(self, address: Address, there: bool) -> None:
        self._addresses[there].append(address)
        self.entry(sets.IPVS_IPS, format_address(address), there)

    def server(self, key: ServerKey, before: _Server | None, now: _Server | None) -> None:
        """A virtual server; deleting it deletes its destinations."""
        if now is None:
            self._deleted.append(key)
            return
        old: tuple[Target, ...] = ()
        if before is None:
            self._added.append((key, now[0]))
        else:
            old = before[1]
            if before[0] != now[0]:
                self._changed.append((key, now[0]))
        self._destinations[True] += [(key, target) for target in sorted(set(now[1]).difference(old))]
        self._destinations[False] += [(key, target) for target in sorted(set(old).difference(now[1]))]

    def program(self, family: int, start: Start | None, rules: str) -> IpvsProgram:
        return IpvsProgram(
            family=family,
            start=start,
            rules=rules,
            entries_added=tuple(self.entries_added),
            entries_deleted=tuple(self.entries_deleted),
            addresses_added=tuple(self._addresses[True]),
            addresses_deleted=tuple(self._addresses[False]),
            servers_added=tuple(self._added),
            servers_changed=tuple(self._changed),
            servers_deleted=tuple(self._deleted),
            destinations_added=tuple(self._destinations[True]),
            destinations_deleted=tuple(self._destinations[False]),
        )
