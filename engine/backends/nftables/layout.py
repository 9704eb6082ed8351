"""Computes the elements of the flat maps from plans, incrementally.

Endpoint sets get a small id and dense slots 0..n-1: a removed endpoint's slot is filled from the
end, so one change moves at most one other endpoint.  Ids and slots depend on the history; the
resulting behaviour does not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec

from engine.addresses import split_target
from engine.backends.claims import Claims, Owner
from engine.backends.interface import Hand
from engine.backends.nftables.affinity import Affinity
from engine.backends.nftables.affinity_rules import draws
from engine.backends.nftables.destinations import Elements, Places, frontends, move, registers
from engine.backends.nftables.numbers import COUNT_LIMIT, ID_RANGES, LARGE_IDS, LARGE_LIMIT, kind_of, pick
from engine.backends.nftables.program import NftablesProgram, Part, SetChange, SetChanges
from engine.backends.nftables.skeleton import (
    TRANSPORTS,
    equal_bytes,
    hairpin_by_endpoint,
    node_ports_everywhere,
    picks,
    skeleton,
)
from engine.backends.nftables.slots import moves, reslotted
from engine.config import PRIMARY, ProxyConfig
from engine.dataplane import PlanChange, PortPlan
from engine.model import TCP, HostAddresses, Name, Target

CHAINS_PER_SCRIPT = 64
"""Counts whose chains are created together: an unprivileged socket's buffer allows only a small transaction."""
_FIRST_SCRIPTS = 4
PART = 8192
"""Elements of a set that are handed over together, before the program is complete."""
SERVICES_BETWEEN_PARTS = 32
"""Asking after each Service whether there is a part would take as long as a tenth of the Service itself."""
_NODE_PORT_ON_LOOPBACK: Places = (("localhost-nodeports", b""),)
_pack_pick = struct.Struct("=I").pack
_SLOT = struct.Struct("=II")
_pack_slot = _SLOT.pack

PoolKey = tuple[Owner, bool]
"""The service port, and whether the set is the local one."""
Sets = dict[int, SetChange]
"""One change per protocol."""


class Parts(NamedTuple):
    """The changes of sets that do not depend on other Services: added endpoints, removed ones, and session affinity."""

    endpoints: Sets
    removed: Sets
    sticky: SetChanges


HAIRPINS = "hairpin-connections"
_HAIRPIN: Places = ((HAIRPINS, b""),)
_NODE_ADDRESS: Places = (("nodeport-ips", b""),)
_NODE = Name("", "")
"""The owner of claims for the node's own addresses; no Service has an empty name."""


class Pool(msgspec.Struct, frozen=True, gc=False):
    """One endpoint set in the kernel."""

    id: int
    slots: tuple[Target, ...]

    @property
    def pick(self) -> bytes:
        """The map data that selects this set."""
        return _pack_pick(pick(len(self.slots), self.id))


class NftablesBackend:
    """Keeps the layout of one family and turns dataplane changes into programs."""

    mode = "nftables"

    def __init__(self, family: int, config: ProxyConfig) -> None:
        self.family = family
        self._config = config
        self._pools: dict[PoolKey, Pool] = {}
        self._ids = {kind: _Ids(*ends) for kind, ends in ID_RANGES.items()}
        self._freed: list[int] = []  # not reused before the deletion is sent
        self._first = True
        self._claims: Claims[tuple[str, bytes], Places] = Claims()
        self._affinity = Affinity()
        self._chains = {("pick", number) for number in range(_FIRST_SCRIPTS)}
        self._counts: dict[str, set[int]] = {"pick": set(), "large": set()}
        self._made: set[tuple[str, int]] = set()
        self._host: HostAddresses | None = None
        self._hand: Hand | None = None
        self._handed: dict[str, int] = {}
        self.degraded: dict[Name, str] = {}
        """Services that are not programmed as specified, and why."""

    def prepare(self, hand: Hand) -> None:
        """Hand over the rules that do not depend on Services."""
        hand(Part((*self._start(), *(chains(self.family, name, number) for name, number in sorted(self._chains)))))

    def plan_ahead(self, changes: Iterable[PlanChange], host: HostAddresses, hand: Hand) -> NftablesProgram:
        """The first program, whose large sets are handed over in parts while they grow."""
        self.prepare(hand)
        self._hand = hand
        program = self.plan(changes, host)
        self._hand = None
        self._handed.clear()
        return program

    def plan(self, changes: Iterable[PlanChange], host: HostAddresses) -> NftablesProgram:
        """The program from the state of the last call to this one; falsy if nothing differs."""
        parts = Parts(_endpoint_sets(), _endpoint_sets(), SetChanges())
        replanned = 0
        for replanned, change in enumerate(changes, start=1):
            self._replan(change, parts)
            if not replanned % SERVICES_BETWEEN_PARTS:
                self._grown(parts.endpoints)
        self._node_addresses(host)
        scripts = (*self._start(), *self._scripts(), *self._timeouts(replanned > 0))
        sets = self._in_order(parts, self._settle())
        start, self._first = self._first, False
        if start and not hairpin_by_endpoint(self._config):
            pairs = equal_bytes(self.family)
            sets.append(SetChange("equal-bytes", add=pairs, key_bytes=len(pairs[0])))
        for number in reversed(self._freed):
            self._give_back(number)
        self._freed.clear()
        self._affinity.settle()
        return NftablesProgram(self.family, scripts, tuple(s for s in sets if s.add or s.delete), start)

    def _grown(self, sets: Mapping[Any, SetChange]) -> None:
        """Hand over the additions to these sets if there are many."""
        for change in sets.values():
            if self._hand and len(change.add) - self._handed.get(change.name, 0) >= PART:
                self._handed[change.name] = len(change.add)
                self._hand(Part((), change, len(change.add)))

    def _replan(self, change: PlanChange, parts: Parts) -> None:
        """Update one Service's pools, and its claims."""
        wanted: Elements = {}
        kept: set[Owner] = set()
        self.degraded.pop(change.service, None)
        for port in change.new:
            owner = (change.service, port.name, port.protocol)
            frontends(owner, port, *self._pools_of(owner, port, kept, *parts), wanted)
            self._on_this_node(owner, port, wanted)
        self._drop_pools(change, kept, parts.removed, parts.sticky)
        self._claims.replace(change.service, wanted)

    def _in_order(self, parts: Parts, settled: list[SetChange]) -> list[SetChange]:
        """All changes of sets: added endpoints before the elements that refer to them, removed ones after these."""
        return [*parts.endpoints.values(), *parts.sticky.values(), *settled, *parts.removed.values()]

    def _timeouts(self, changed: bool) -> Iterable[str]:
        """Scripts for timeouts that are new or no longer used; `changed`: whether any Service has."""
        return self._affinity.timeouts(self.family) if changed else ()

    def _take(self, key: PoolKey, large: bool) -> int | None:
        """An unused id for a pool; None if there is none."""
        return self._ids[large, key[1]].take()

    def _give_back(self, number: int) -> None:
        """Free an id of a pool that was dropped."""
        self._ids[kind_of(number)].give_back(number)

    def _start(self) -> tuple[str, ...]:
        """The table itself, at the first sync: it drops and rejects even without Services (CIP-02)."""
        return (skeleton(self.family, self._config),) if self._first else ()

    def _scripts(self) -> tuple[str, ...]:
        """Rules that the elements need: chains for new endpoint counts."""
        for name, counts in (*self._counts.items(), ("draw", self._affinity.counts)):
            self._chains.update((name, _script(count)) for count in counts)
            counts.clear()
        new = sorted(self._chains - self._made)
        self._made.update(new)
        return tuple(chains(self.family, name, number) for name, number in new)

    def _pools_of(
        self, owner: Owner, port: PortPlan, kept: set[Owner], added: Sets, removed: Sets, sticky: SetChanges
    ) -> tuple[bytes | None, bytes | None]:
        """The picks of a port's cluster-wide and local endpoint sets, None for an empty one."""
        if port.affinity_seconds:
            if not port.cluster and not port.local:
                return None, None
            placed = self._affinity.place(owner, port, sticky)
            if not isinstance(placed, str):
                kept.add(owner)
                self._lacks(owner, placed.lacks)
                return placed.cluster, placed.local
            self._lacks(owner, placed)
        cluster, local = port.cluster, port.local
        return (
            self._pool((owner, False), cluster, kept, added, removed) if cluster else None,
            self._pool((owner, True), local, kept, added, removed) if local else None,
        )

    def _pool(
        self, key: PoolKey, targets: tuple[Target, ...], kept: set[Owner], added: Sets, removed: Sets
    ) -> bytes | None:
        """Update one endpoint set to `targets`; returns its pick, None if no id is available."""
        (_, _, protocol), _ = key
        if len(targets) > LARGE_LIMIT:
            self._lacks(key[0], f"only {LARGE_LIMIT:,} of {len(targets):,} endpoints")
            targets = targets[:LARGE_LIMIT]
        pool = self._pools.get(key)
        large = len(targets) > COUNT_LIMIT
        if pool is not None and large and pool.id >= LARGE_IDS:
            self._drop_pool(key, removed)
            pool = None
        if pool is None:
            number = self._take(key, large)
            if number is None:
                self._lacks(key[0], "no endpoints, too many endpoint sets")
                return None
            pool = self._pools[key] = Pool(number, targets)
            added[protocol].add += [_pack_slot(pool.id, slot) + target + b"\0\0" for slot, target in enumerate(targets)]
        else:
            pool = self._pools[key] = _reslotted(pool, targets, added[protocol], removed[protocol])
        kept.add(key)
        self._counts["large" if pool.id < LARGE_IDS else "pick"].add(len(targets))
        return pool.pick

    def _lacks(self, owner: Owner, what: str) -> None:
        """Record why a port is degraded; "" if it is not."""
        service, port, _ = owner
        if what:
            said = f"port {port}: {what}" if port else what
            self.degraded[service] = "; ".join(filter(None, (self.degraded.get(service), said)))

    def _on_this_node(self, owner: Owner, port: PortPlan, wanted: Elements) -> None:
        """This node's endpoints, for hairpin masquerading, and node ports to be rejected on loopback."""
        if port.on_node and hairpin_by_endpoint(self._config):
            for target in hairpins(port):
                wanted[(HAIRPINS, hairpin_key(target, port.protocol)), owner] = _HAIRPIN
        if port.node_port and self._rejects_on_loopback(port.protocol):
            key = registers(port.protocol, port.node_port)
            wanted[("localhost-nodeports", key), owner] = _NODE_PORT_ON_LOOPBACK

    def _rejects_on_loopback(self, protocol: int) -> bool:
        """Whether node ports of a protocol are to be rejected on loopback."""
        served = protocol == TCP and self._config.localhost_served(self.family)
        return self._config.localhost_rejected() and not served

    def _drop_pools(self, change: PlanChange, kept: set[Owner], removed: Sets, sticky: SetChanges) -> None:
        for port in change.old:
            owner = (change.service, port.name, port.protocol)
            if owner not in kept:
                self._affinity.drop(owner, sticky)
            for local in (False, True):
                key = (owner, local)
                if key not in kept and key in self._pools:
                    self._drop_pool(key, removed)

    def _drop_pool(self, key: PoolKey, removed: Sets) -> None:
        pool = self._pools.pop(key)
        (_, _, protocol), _ = key
        removed[protocol].delete += [_pack_slot(pool.id, slot) for slot in range(len(pool.slots))]
        self._freed.append(pool.id)

    def _settle(self) -> list[SetChange]:
        """Elements whose effective claim changed, by set."""
        sets = SetChanges()
        for settled, ((_, key), before, now) in enumerate(self._claims.settle(), start=1):
            move(key, before or (), now or (), sets)
            if not settled % PART:
                self._grown(sets)
        return [sets[name] for name in sorted(sets)]

    def _node_addresses(self, host: HostAddresses) -> None:
        """The addresses that accept node ports (NP-01 to NP-03, NP-09), never loopback ones (NP-06)."""
        if host == self._host or node_ports_everywhere(self.family, self._config):
            return
        self._host = host
        ours = self._config.taking_node_ports(self.family, (*host.local, *host.node), host.node, (PRIMARY,))
        self._claims.replace(_NODE, {(("nodeport-ips", address), (_NODE,)): _NODE_ADDRESS for address in ours})


class _Ids:
    """Ids from `first` up to but not including `end`; the last one returned is reused first."""

    def __init__(self, first: int, end: int) -> None:
        self._fresh = iter(range(first, end))
        self._free: list[int] = []

    def take(self) -> int | None:
        """An unused id; None if there is none."""
        return self._free.pop() if self._free else next(self._fresh, None)

    def give_back(self, number: int) -> None:
        """Return an id that is no longer used."""
        self._free.append(number)


def _endpoint_sets() -> Sets:
    """Empty changes of the endpoint maps."""
    return {protocol: SetChange(f"{name}-endpoints", key_bytes=_SLOT.size) for protocol, name in TRANSPORTS.items()}


def hairpins(port: PortPlan) -> set[Target]:
    """This node's endpoints that a port's traffic may go to (HAIR-01a)."""
    return set(port.on_node).intersection((*port.cluster, *port.local))


def hairpin_key(target: Target, protocol: int) -> bytes:
    """The element for connections of an endpoint to itself."""
    address, port = split_target(target)
    return address * 2 + registers(protocol, port)


def _script(count: int) -> int:
    """The number of the script that creates the chain for a count."""
    return (count - 1) // CHAINS_PER_SCRIPT


@cache
def chains(family: int, name: str, number: int) -> str:
    """The script that creates a block of chains: `pick`, `large` or `draw`."""
    first, last = number * CHAINS_PER_SCRIPT + 1, (number + 1) * CHAINS_PER_SCRIPT
    if name == "draw":
        return draws(family, first, last)
    large = name == "large"
    return picks(family, first, min(last, LARGE_LIMIT if large else COUNT_LIMIT), large)


def _reslotted(pool: Pool, targets: tuple[Target, ...], added: SetChange, removed: SetChange) -> Pool:
    """The pool with the set `targets` in its slots, with the fewest moves."""
    old, slots = pool.slots, reslotted(pool.slots, targets)
    removed.delete += [_pack_slot(pool.id, slot) for slot in range(len(slots), len(old))]
    added.moved += moves(old, slots)
    for slot, target in enumerate(slots):
        if slot >= len(old) or old[slot] != target:
            if slot < len(old):
                added.delete.append(_pack_slot(pool.id, slot))
            added.put(_pack_slot(pool.id, slot), target + b"\0\0")
    return Pool(pool.id, tuple(slots))
