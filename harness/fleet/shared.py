"""The shared part of a zone's nodes: the programs of a node without local endpoints, and where each node differs.

A Service's plan depends on the node by its local endpoints, its zone if endpoints have hints, and its address if a load
balancer's source ranges contain it. Everything else, and so most of a program, is the same on every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.backends.nftables.layout import hairpin_key, hairpins
from engine.backends.nftables.numbers import kind_of
from engine.backends.nftables.overlay import Ids, PartsBackend, Recorded
from engine.dataplane import Dataplane, PortPlan, hints_of, of_node, within
from engine.model import ADDRESS_BYTES, Address, EndpointSlice, HostAddresses, Name, Network, Node, Target
from engine.modes import MODES, NFTABLES
from engine.topology import Endpoints, local_targets, select
from engine.tracking import NODES, ClusterState, endpoints_of
from harness.fleet.stage import PreparedScenario, config_of
from harness.fleet.tape import Tape, TapeChange
from harness.fleet.view import CODES
from harness.replay.effects import NOTHING, SENT, UNDONE

SINCE = (1, 36)
"""Before this version a node prefers its own entry of a repeated endpoint, so that plans differ more."""


class NodePart(NamedTuple):
    """The node's part of a port: its endpoints there, those for local traffic, and hairpin keys.

    `cluster` is its cluster-wide set, None if that is the zone's.
    """

    on_node: tuple[Target, ...] = ()
    local: tuple[Target, ...] = ()
    hairpins: tuple[bytes, ...] = ()
    cluster: tuple[Target, ...] | None = None


Locals = tuple[NodePart, ...]
"""By port, in the order of the plan; () for a Service without an endpoint on the node."""


class ReferenceProgram(NamedTuple):
    """A program of the reference: `digest` is b"" if it is empty."""

    parts: Recorded
    digest: bytes
    operations: int
    bytes: int
    changed: int
    """The number of Services whose plans changed."""


@dataclass
class Reference:
    """One family of a zone; `plans` are each Service's by sync, `locals` the parts of each node."""

    programs: list[ReferenceProgram | None] = field(default_factory=list)
    taken: Ids = field(default_factory=dict)
    plans: dict[Name, list[tuple[int, tuple[PortPlan, ...]]]] = field(default_factory=dict)
    locals: dict[str, list[tuple[int, Name, Locals]]] = field(default_factory=dict)
    """By node: first sync, Service and parts."""


@dataclass
class CoupledServices:
    """Services that ever had policy Local, affinity, source ranges, or an address or node port in common."""

    local: set[Name] = field(default_factory=set)
    sticky: set[Name] = field(default_factory=set)
    ranged: dict[Name, set[Network]] = field(default_factory=dict)
    sharing: dict[Name, set[Name]] = field(default_factory=dict)
    _users: dict[Address | int, set[Name]] = field(default_factory=dict)

    def note(self, name: Name, plan: PortPlan) -> None:
        """Record one port of a Service."""
        if plan.internal_local or plan.external_local:
            self.local.add(name)
        if plan.affinity_seconds:
            self.sticky.add(name)
        if plan.allowed:
            self.ranged.setdefault(name, set()).update(plan.allowed)
        shown: tuple[Address | int, ...] = (
            plan.cluster_ip,
            *plan.external_ips,
            *plan.load_balancer_ips,
            plan.node_port,
        )
        for key in shown:
            if not key:
                continue
            users = self._users.setdefault(key, set())
            users.add(name)
            if len(users) > 1:
                for user in users:
                    self.sharing.setdefault(user, set()).update(users)

    def few(self, locals_: Iterable[tuple[Name, Locals]], addresses: tuple[Address, ...]) -> frozenset[Name]:
        """The Services whose programs differ on the node, by its parts and address, with all that they depend on."""
        found = {
            name for name, ports in locals_ if name in self.local or any(port.cluster is not None for port in ports)
        }
        found |= {n for n, ranges in self.ranged.items() if any(within(ranges, addresses, s) for s in (4, 16))}
        waiting = list(found)
        while waiting:
            name = waiting.pop()
            more = self.sharing.get(name, set()) | (self.sticky if name in self.sticky else set())
            waiting += more - found
            found |= more
        return frozenset(found)


@dataclass
class Shared:
    """Both families of a zone; the codes of each change if the sync had operations, and if it had none."""

    families: dict[int, Reference]
    codes: dict[bool, bytearray] = field(default_factory=lambda: {True: bytearray(), False: bytearray()})
    together: CoupledServices = field(default_factory=lambda: CoupledServices())


def sharing(stage: PreparedScenario) -> dict[str, Shared]:
    """The shared part of each zone; empty if views must be computed one by one, with the same result."""
    if not _possible(stage):
        return {}
    zones = {node.zone if node else "" for node in stage.tape.nodes.values()}
    if not any(e.zones for piece in _slices(stage.tape) for e in piece.endpoints):
        zones = {""}
    found = {}
    for zone in sorted(zones):
        try:
            found[zone] = _Fold(stage, zone).done()
        except (_Degraded, ValueError):
            return {}
    return found


def _possible(stage: PreparedScenario) -> bool:
    """Only programs of mode nftables can be split."""
    return MODES[stage.settings.mode] is NFTABLES and stage.settings.version >= SINCE


def _slices(tape: Tape) -> Iterator[EndpointSlice]:
    seen = (*tape.initial, *(change.observed for change in tape.changes if change.observed))
    yield from (each.value for each in seen if isinstance(each.value, EndpointSlice))


class _Degraded(Exception):
    """A Service is not programmed as specified, which may be caused by others."""


class _Fold:
    """Computes a zone's reference from the tape; for one use."""

    def __init__(self, stage: PreparedScenario, zone: str) -> None:
        self._stage, self._config = stage, config_of(stage)
        self._state = ClusterState(None, self._config.version)
        self._state.node = Node("", zone, ())
        self._shared = Shared({family: Reference() for family in ADDRESS_BYTES})
        self._planes = {family: Dataplane(family, self._config) for family in ADDRESS_BYTES}
        self._recorders = {family: PartsBackend(family, self._config) for family in ADDRESS_BYTES}
        zones = {node.zone if node else "" for node in stage.tape.nodes.values()}
        mine = zone if len(zones) > 1 and zone else None
        nodes = stage.tape.nodes.items()
        self._nodes = {name for name, node in nodes if mine is None or (node and node.zone == mine)}
        self._hinted = False
        self._last: dict[tuple[int, Name], dict[str, Locals]] = {}

    def done(self) -> Shared:
        """The reference; _Degraded if a Service cannot be programmed."""
        for seen in self._stage.tape.initial:
            if seen.resource != NODES:
                self._state.apply(seen)
        self._sync(0)
        for number, batch in enumerate(self._stage.batches, 1):
            own = [self._observe(change) for change in batch.changes]
            pending = self._state.pending
            touched = self._sync(number) if pending else set()
            self._code([change.service for change in batch.changes], own, touched)
        for reference in self._shared.families.values():
            if self._hinted and any(kind_of(number)[0] for numbers in reference.taken.values() for number in numbers):
                raise _Degraded  # on some nodes these sets may be small
            reference.programs += [None] * (len(self._stage.batches) + 1 - len(reference.programs))
        return self._shared

    def _observe(self, change: TapeChange) -> bool:
        seen = change.observed
        return seen is not None and seen.resource != NODES and self._state.apply(seen)

    def _sync(self, number: int) -> set[Name]:
        """Services whose plans have changed in any family."""
        dirty, touched = self._state.take_dirty(), set()
        for family, reference in self._shared.families.items():
            changes = self._planes[family].update(self._state, dirty)
            program, parts = self._recorders[family].record(changes, HostAddresses())
            if self._planes[family].unplanned or self._recorders[family].degraded:
                raise _Degraded
            scripts = sum(len(script) for script in program.scripts)
            sent = scripts + sum(block.size for block in parts.blocks)
            value = program.digest() if program else b""
            entry = ReferenceProgram(parts, value, program.operations, sent, len(changes))
            reference.programs += [None] * (number - len(reference.programs)) + [entry]
            reference.taken = self._recorders[family].taken
            for change in changes:
                reference.plans.setdefault(change.service, []).append((number, change.new))
                for plan in change.new:
                    self._shared.together.note(change.service, plan)
            touched |= {change.service for change in changes}
            for name in dirty:
                self._locals(family, number, name)
        return touched

    def _locals(self, family: int, number: int, name: Name) -> None:
        """Record the nodes on which a Service's endpoints have changed."""
        plans = self._planes[family].plans.get(name, ())
        now = self._by_node(family, name, plans) if plans else {}
        before = self._last.get((family, name), {})
        for node in before.keys() | now.keys():
            if before.get(node) != now.get(node):
                entry = (number, name, now.get(node, ()))
                self._shared.families[family].locals.setdefault(node, []).append(entry)
        self._last[family, name] = now

    def _by_node(self, family: int, name: Name, plans: tuple[PortPlan, ...]) -> dict[str, Locals]:
        slices, found = self._state.slices.get(name, {}), dict[str, list[NodePart]]()
        for port, plan in enumerate(plans):
            here: dict[str, Endpoints] = {}
            endpoints = endpoints_of(slices, family, plan.name, plan.protocol, None)
            for target, endpoint in endpoints.items():
                for node in {endpoint.node, *endpoint.nodes} if endpoint.nodes else (endpoint.node,):
                    if node in self._nodes:
                        mine = here.setdefault(node, {})
                        if node == endpoint.node:
                            mine[target] = endpoint
            preferred = any(endpoint.nodes for endpoint in endpoints.values())
            self._hinted |= preferred
            for node, mine in here.items():
                cluster = self._cluster(name, plan, endpoints, node) if preferred else None
                local = local_targets(mine) if plan.internal_local or plan.external_local else ()
                whole = of_node(plan, tuple(sorted(mine)), local, (), cluster)
                keys = sorted(hairpin_key(target, plan.protocol) for target in hairpins(whole))
                ports = found.setdefault(node, [NodePart()] * len(plans))
                ports[port] = NodePart(whole.on_node, local, tuple(keys), cluster)
        return {node: tuple(ports) for node, ports in found.items() if any(port != NodePart() for port in ports)}

    def _cluster(self, name: Name, plan: PortPlan, endpoints: Endpoints, node: str) -> tuple[Target, ...] | None:
        """The cluster-wide set of a node that hints may refer to; None if it is the zone's."""
        assert self._state.node, "of the zone"
        hints = hints_of(self._state.services[name], node, self._state.node.zone, self._config)
        accessible = bool(plan.node_port or plan.external_ips or plan.load_balancer_ips)
        wanted = accessible or not plan.internal_local
        found = select(endpoints, node, hints, cluster=wanted, local=False).cluster
        return None if found == plan.cluster else found

    def _code(self, services: list[Name | None], own: list[bool], touched: set[Name]) -> None:
        for sent, codes in self._shared.codes.items():
            codes += bytes(codes_of(services, own, touched, sent))


def codes_of(services: list[Name | None], own: list[bool], touched: set[Name], sent: bool) -> Iterator[int]:
    """The code of each change of a batch, of which `own` are the node's; `touched` have other plans than before."""
    counts: dict[Name | None, int] = {}
    for service, mine in zip(services, own, strict=True):
        counts[service] = counts.get(service, 0) + mine
    for service, mine in zip(services, own, strict=True):
        if not mine:
            yield 0
        elif service is None or service in touched:
            yield CODES[SENT if sent else NOTHING]
        else:
            yield CODES[UNDONE if counts[service] > 1 else NOTHING]
