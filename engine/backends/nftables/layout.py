"""Which elements say what: from plans to the elements of the flat maps, change by change.

Endpoint sets get a small id and dense slots 0..n-1: a removed endpoint's slot is filled from the
end, so one change moves at most one other endpoint.  Ids and slots depend on the history; what
they mean does not.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from engine.addresses import collapse, contains, last_address
from engine.backends.claims import Claims, Wanted
from engine.backends.nftables.affinity import Affinity, Changes
from engine.backends.nftables.program import NftablesProgram, SetChange
from engine.backends.nftables.skeleton import (
    COUNT_LIMIT,
    ID_BITS,
    TRANSPORTS,
    affinity_class,
    draws,
    equal_bytes,
    node_ports_everywhere,
    picks,
    skeleton,
)
from engine.backends.nftables.slots import moves, reslotted
from engine.config import ProxyConfig
from engine.dataplane import Change, PortPlan
from engine.model import ADDRESS_BYTES, Address, HostAddresses, Name, Target

PICKS_PER_SCRIPT = 64
_pack_pick = struct.Struct("=I").pack
_pack_slot = struct.Struct("=II").pack

PoolKey = tuple[Name, str, int, bool]
Sets = dict[int, SetChange]
"""One change a protocol."""

_NODE = Name("", "")
"""Who claims the node's own addresses: no Service has an empty name."""


class Pool(NamedTuple):
    """One endpoint set as it stands in the kernel."""

    id: int
    slots: list[Target]

    @property
    def pick(self) -> bytes:
        """The map data that leads to this set."""
        return _pack_pick(len(self.slots) << ID_BITS | self.id)


class NftablesBackend:
    """Keeps the layout of one family and turns dataplane changes into programs."""

    mode = "nftables"

    def __init__(self, family: int, config: ProxyConfig) -> None:
        self.family = family
        self._config = config
        self._pools: dict[PoolKey, Pool] = {}
        self._free: list[int] = []
        self._freed: list[int] = []  # not to be used again before the deletion is sent
        self._next_id = 1
        self._first = True
        self._claims = Claims()
        self._picks = 0
        self._needed = 0
        self._affinity = Affinity()
        self._draws = 0
        self._classes = 0

    def plan(self, changes: list[Change], host: HostAddresses) -> NftablesProgram:
        """The program that takes the kernel from the last plan to this one; falsy when nothing differs."""
        endpoints = {p: SetChange(f"{name}-endpoints") for p, name in TRANSPORTS.items()}
        removed = {p: SetChange(change.name) for p, change in endpoints.items()}
        sticky: Changes = {}
        for change in changes:
            wanted: Wanted = {}
            kept = set()
            for port in change.new:
                pools = self._pools_of(change.service, port, kept, endpoints, removed, sticky)
                _frontends(change.service, port, *pools, wanted)
            self._drop_pools(change, kept, removed, sticky)
            self._claims.replace(change.service, wanted)
        self._node_addresses(host)
        scripts = (*self._start(), *self._scripts(), *self._affinity_scripts())
        sets = [*endpoints.values(), *sticky.values(), *self._settle(), *removed.values()]
        start, self._first = self._first, False
        if start:
            sets.append(SetChange("equal-bytes", add=equal_bytes(self.family)))
        self._free += reversed(self._freed)
        self._freed.clear()
        return NftablesProgram(self.family, scripts, tuple(s for s in sets if s.add or s.delete), start)

    def _start(self) -> tuple[str, ...]:
        """The table itself, at the first sync: it drops and rejects even while there are no Services (CIP-02)."""
        return (skeleton(self.family, self._config),) if self._first else ()

    def _scripts(self) -> tuple[str, ...]:
        """Rules that the elements will need: more pick chains when an endpoint set outgrows them.

        Several texts, as an unprivileged socket's buffer holds only a small transaction.
        """
        if self._needed <= self._picks:
            return ()
        before, self._picks = self._picks, min(max(256, 1 << (self._needed - 1).bit_length()), COUNT_LIMIT)
        return tuple(
            picks(self.family, first, min(first + PICKS_PER_SCRIPT - 1, self._picks))
            for first in range(before + 1, self._picks + 1, PICKS_PER_SCRIPT)
        )

    def _affinity_scripts(self) -> tuple[str, ...]:
        """Rules for affinity: chains for more endpoints, and for timeouts not seen before."""
        scripts = []
        before, needed = self._draws, self._affinity.largest
        if needed > before:
            self._draws = max(16, 1 << (needed - 1).bit_length())
            scripts += [
                draws(self.family, first, min(first + PICKS_PER_SCRIPT - 1, self._draws))
                for first in range(before + 1, self._draws + 1, PICKS_PER_SCRIPT)
            ]
        known = list(self._affinity.classes.items())
        scripts += [affinity_class(self.family, seconds, number) for seconds, number in known[self._classes :]]
        self._classes = len(known)
        return tuple(scripts)

    def _pools_of(
        self, service: Name, port: PortPlan, kept: set, added: Sets, removed: Sets, sticky: Changes
    ) -> tuple[bytes | None, bytes | None]:
        """The picks of a port's cluster-wide and local endpoint sets, None for an empty one."""
        owner = (service, port.name, port.protocol)
        if port.affinity_seconds:
            if not port.cluster and not port.local:
                return None, None
            kept.add(owner)
            return self._affinity.place(owner, port, sticky)
        sets = ((False, port.cluster), (True, port.local))
        return tuple(self._pool((*owner, local), ends, kept, added, removed) if ends else None for local, ends in sets)

    def _pool(self, key: PoolKey, targets: tuple[Target, ...], kept: set, added: Sets, removed: Sets) -> bytes:
        """Bring one endpoint set to `targets`; the pick that leads to it."""
        kept.add(key)
        targets = targets[:COUNT_LIMIT]
        protocol = key[2]
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(self._new_id(), list(targets))
            added[protocol].add += [
                (_pack_slot(pool.id, slot), target + b"\0\0") for slot, target in enumerate(targets)
            ]
        else:
            _reslot(pool, targets, added[protocol], removed[protocol])
        self._needed = max(self._needed, len(targets))
        return pool.pick

    def _new_id(self) -> int:
        if self._free:
            return self._free.pop()
        self._next_id += 1
        if self._next_id >= 1 << (ID_BITS - 1):
            raise OverflowError(f"more than {(1 << (ID_BITS - 1)) - 2} endpoint sets in one family")
        return self._next_id - 1

    def _drop_pools(self, change: Change, kept: set[tuple], removed: Sets, sticky: Changes) -> None:
        for port in change.old:
            owner = (change.service, port.name, port.protocol)
            if owner not in kept:
                self._affinity.drop(owner, sticky)
            for local in (False, True):
                key = (change.service, port.name, port.protocol, local)
                if key not in kept and key in self._pools:
                    pool = self._pools.pop(key)
                    removed[port.protocol].delete += [_pack_slot(pool.id, slot) for slot in range(len(pool.slots))]
                    self._freed.append(pool.id)

    def _settle(self) -> list[SetChange]:
        """Elements whose winning claim changed, by set."""
        sets: dict[str, SetChange] = {}
        for (name, key), before, now in self._claims.settle():
            change = sets.setdefault(name, SetChange(name))
            if before is not None:
                change.delete.append(key)
            if now is not None:
                change.add.append((key, now))
        return list(sets.values())

    def _node_addresses(self, host: HostAddresses) -> None:
        """The addresses that take node ports (NP-01 to NP-03, NP-09), never loopback ones (NP-06)."""
        if node_ports_everywhere(self.family, self._config):
            return
        size = ADDRESS_BYTES[self.family]
        networks = self._config.node_port_networks(self.family)
        taken = host.local if networks else host.node
        ours = {
            a
            for a in taken
            if len(a) == size and not _loopback(a) and (not networks or any(contains(n, a) for n in networks))
        }
        self._claims.replace(_NODE, {(("nodeport-ips", address), (_NODE,)): b"" for address in ours})


def _loopback(address: Address) -> bool:
    return address[0] == 127 if len(address) == 4 else address == bytes(15) + b"\1"


def _reslot(pool: Pool, targets: tuple[Target, ...], added: SetChange, removed: SetChange) -> None:
    """Bring `pool.slots` to the set `targets` with the fewest moves."""
    old, slots = pool.slots, reslotted(pool.slots, targets)
    removed.delete += [_pack_slot(pool.id, slot) for slot in range(len(slots), len(old))]
    added.moved += moves(old, slots)
    for slot, target in enumerate(slots):
        if slot >= len(old) or old[slot] != target:
            if slot < len(old):
                added.delete.append(_pack_slot(pool.id, slot))
            added.add.append((_pack_slot(pool.id, slot), target + b"\0\0"))
    pool.slots[:] = slots


def _frontends(service: Name, port: PortPlan, cluster: bytes | None, local: bytes | None, wanted: Wanted) -> None:
    """The elements by which one port is reached, into `wanted`."""
    owner = (service, port.name, port.protocol, False)
    tail = bytes((port.protocol, 0, 0, 0)) + port.port.to_bytes(2, "big") + b"\0\0"
    destination = port.cluster_ip + tail
    wanted[("cluster-ips", port.cluster_ip), owner] = b""
    internal = local if port.internal_local else cluster
    if internal:
        wanted[("services", destination), owner] = internal
    elif port.any_usable:
        wanted[("drop-services", destination), owner] = b""
    for ip in port.external_ips + port.load_balancer_ips:
        _external("services", ip + tail, port, owner, cluster, local, wanted)
    if port.node_port:
        key = bytes((port.protocol, 0, 0, 0)) + port.node_port.to_bytes(2, "big") + b"\0\0"
        _external("nodeports", key, port, owner, cluster, local, wanted)
    if port.allowed is not None:
        _firewall(port, tail, owner, wanted)


def _external(kind: str, key: bytes, port: PortPlan, owner, cluster, local, wanted: Wanted) -> None:
    """A destination outside the cluster's own: by external traffic policy (ETP-01 to ETP-04)."""
    if not port.any_usable:
        wanted[(f"reject-{kind}", key), owner] = b""
        return
    if not port.external_local:
        name = "external-services" if kind == "services" else "nodeports"
        wanted[(name, key), owner] = cluster
        return
    if cluster:
        name = "short-circuits" if kind == "services" else "short-circuit-nodeports"
        wanted[(name, key), owner] = cluster
    if local:
        wanted[(f"local-{kind}", key), owner] = local
    else:
        wanted[(f"drop-{kind}", key), owner] = b""


def _firewall(port: PortPlan, tail: bytes, owner, wanted: Wanted) -> None:
    """Load balancer addresses that only some sources may use; key and key end of each range."""
    for ip in port.load_balancer_ips:
        wanted[("firewalled", ip + tail), owner] = b""
        for network in collapse(port.allowed):
            first, last = ip + tail + network.address, ip + tail + last_address(network)
            wanted[("firewall-allowed", first + last), owner] = b""
