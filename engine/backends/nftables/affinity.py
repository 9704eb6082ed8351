"""Session affinity: the elements that store and find a client's endpoint (AFF-01 to AFF-06).

Each endpoint of a port with affinity gets a *ticket*, its number in the port combined with the port's id,
which it keeps while it is an endpoint; a client's entry holds the ticket.  A ticket is valid only
while it is a member of the set that the connection may use, and is replaced otherwise.  Numbers of a port
are not reused, even if another port had its id before, so that old entries never match a new endpoint.

A port beyond the limits is programmed nevertheless, with a different timeout or without affinity;
`Placed.lacks` has the reason.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from engine.backends.claims import Owner
from engine.backends.nftables.affinity_rules import KINDS, timeouts
from engine.backends.nftables.blocks import Blocks
from engine.backends.nftables.numbers import ID_BITS, STICKY_ID_BITS, STICKY_LIMIT
from engine.backends.nftables.program import SetChanges
from engine.backends.nftables.slots import moves, reslotted
from engine.dataplane import PortPlan
from engine.model import PROTOCOL_NAMES, Target

_priority = struct.Struct("=I").pack
_slot = struct.Struct("=II").pack

BLOCKS_PER_SCRIPT = 64

Elements = dict[tuple[str, bytes], bytes]


class Placed(NamedTuple):
    """The picks of a port's cluster-wide and local set, None for an empty one; what it lacks, "" for nothing."""

    cluster: bytes | None
    local: bytes | None
    lacks: str = ""


@dataclass(slots=True)
class _Port:
    """The state of one service port: the numbers of its endpoints and the slots of each set."""

    id: int
    asked: int
    seconds: int
    last_number: int
    numbers: dict[Target, int] = field(default_factory=dict)
    slots: dict[str, list[Target]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    elements: Elements = field(default_factory=dict)


class Affinity:
    """Tickets of every port with affinity in one family, and the blocks of their timeouts."""

    def __init__(self, blocks: Blocks | None = None) -> None:
        self.counts: set[int] = set()
        """The ticket counts of changed sets, until the caller clears it."""
        self._ports: dict[Owner, _Port] = {}
        self._blocks = blocks or Blocks()
        self._programmed: dict[int, int] = {}
        self._last_numbers: dict[int, int] = {}

    def place(self, owner: Owner, port: PortPlan, changes: SetChanges) -> Placed | str:
        """Update a port's elements; returns its picks, or the reason why it cannot have affinity."""
        sets = {"cluster": port.cluster, "local": port.local}
        targets = set(port.cluster) | set(port.local)
        if len(targets) > STICKY_LIMIT:
            self.drop(owner, changes)
            return f"no session affinity, more than {STICKY_LIMIT:,} endpoints"
        held = self._held(owner, port.affinity_seconds, changes)
        if held is None:
            return "no session affinity, too many service ports have it"
        _renumber(held, targets)
        before = held.slots
        held.slots = {kind: reslotted(before[kind], ends) for kind, ends in sets.items()}
        self.counts.update(len(slots) for slots in held.slots.values() if slots)
        self._replace(held, dict(_elements(held, PROTOCOL_NAMES[port.protocol])), changes)
        moved = sum(moves(before[kind], held.slots[kind]) for kind in KINDS)
        if moved:
            changes["sticky-slots"].moved += moved
        picks = {kind: _priority(KINDS[kind] << ID_BITS | held.id << 1) for kind in KINDS if held.slots[kind]}
        lacks = f"session affinity of {held.seconds} s, not {held.asked} s, too many different timeouts"
        return Placed(picks.get("cluster"), picks.get("local"), lacks if held.seconds != held.asked else "")

    def drop(self, owner: Owner, changes: SetChanges) -> None:
        """Remove a port that no longer has affinity, if it had."""
        held = self._ports.pop(owner, None)
        if held is not None:
            self._replace(held, {}, changes)
            self._last_numbers[held.id] = held.last_number
            self._blocks.release(held.id)

    def settle(self) -> None:
        """The program of the changes is complete; ids freed by it may be used by the next one."""
        self._blocks.settle()

    @property
    def owes(self) -> bool:
        """Whether `timeouts` would have a script."""
        return self._programmed != self._blocks.seconds

    def timeouts(self, family: int) -> Iterator[str]:
        """The scripts for added and removed timeouts, each for a number of blocks."""
        wanted = self._blocks.seconds
        changed = [n for n in sorted({*self._programmed, *wanted}) if self._programmed.get(n) != wanted.get(n)]
        for first in range(0, len(changed), BLOCKS_PER_SCRIPT):
            piece = changed[first : first + BLOCKS_PER_SCRIPT]
            before = self._programmed
            self._programmed = {number: seconds for number, seconds in before.items() if number not in piece}
            self._programmed |= {number: wanted[number] for number in piece if number in wanted}
            yield timeouts(family, before, self._programmed)

    def _held(self, owner: Owner, seconds: int, changes: SetChanges) -> _Port | None:
        held = self._ports.get(owner)
        if held is not None and held.asked == seconds:
            return held
        self.drop(owner, changes)
        taken = self._blocks.take(seconds)
        if taken is None:
            return None
        number, granted = taken
        held = self._ports[owner] = _Port(number, seconds, granted, self._last_numbers.pop(number, 0))
        return held

    @staticmethod
    def _replace(held: _Port, elements: Elements, changes: SetChanges) -> None:
        for (name, key), data in sorted(held.elements.items()):
            if elements.get((name, key)) != data:
                changes[name].delete.append(key)
        for (name, key), data in sorted(elements.items()):
            if held.elements.get((name, key)) != data:
                changes[name].put(key, data)
        held.elements = elements


def _renumber(held: _Port, targets: set[Target]) -> None:
    """Assign numbers to new endpoints, continuing from the last one, as clients may still have old ones."""
    for gone in held.numbers.keys() - targets:
        del held.numbers[gone]
    taken = set(held.numbers.values())
    for target in sorted(targets - held.numbers.keys()):
        held.last_number = next(
            number
            for number in ((held.last_number + step - 1) % STICKY_LIMIT + 1 for step in count(1))
            if number not in taken
        )
        held.numbers[target] = held.last_number
        taken.add(held.last_number)


def _elements(held: _Port, protocol: str) -> Iterator[tuple[tuple[str, bytes], bytes]]:
    for local, (kind, targets) in enumerate(held.slots.items()):
        number = held.id << 1 | local
        if targets:
            yield (f"sticky-{kind}-sets", _priority(held.id << 1)), _priority(len(targets) << STICKY_ID_BITS | number)
        for slot, target in enumerate(targets):
            ticket = _priority(held.numbers[target] << STICKY_ID_BITS | held.id << 1)
            yield ("sticky-slots", _slot(number, slot)), ticket
            yield (f"sticky-{kind}-members", ticket), b""
            yield (f"sticky-{protocol}", ticket), target + b"\0\0"
