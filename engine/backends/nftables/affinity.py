"""Session affinity: which elements remember and find a client's endpoint (AFF-01 to AFF-06).

Each endpoint of a port with affinity gets a *ticket*, its number in the port above the port's id,
which it keeps while it is an endpoint; a client's entry holds the ticket.  A ticket is honoured only
while it is a member of the set that the connection may use, so an entry outlives its endpoint
harmlessly.  Ids are not given out again before all others were, lest old entries meet a new port.

The port's id is even and stands for its cluster-wide set, the odd one after it for its local set.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from engine.backends.nftables.program import SetChange
from engine.backends.nftables.skeleton import AFFINITY_LIMIT, FIRST_CLASS, ID_BITS, TRANSPORTS
from engine.backends.nftables.slots import moves, reslotted
from engine.dataplane import PortPlan
from engine.model import Target

_priority = struct.Struct("=I").pack
_slot = struct.Struct("=II").pack
_FIRST_ID, _LAST_ID = 1 << (ID_BITS - 1), (1 << ID_BITS) - 2

Elements = dict[tuple[str, bytes], bytes]
Changes = dict[str, SetChange]


@dataclass(slots=True)
class _Port:
    """One service port as it stands: its endpoints' numbers and each set's slots."""

    id: int
    numbers: dict[Target, int] = field(default_factory=dict)
    last_number: int = 0
    slots: dict[bool, list[Target]] = field(default_factory=lambda: {False: [], True: []})
    elements: Elements = field(default_factory=dict)


class Affinity:
    """Tickets of every port with affinity in one family, and the classes of their timeouts."""

    def __init__(self) -> None:
        self.classes: dict[int, int] = {}
        self.largest = 0
        self._ports: dict[tuple, _Port] = {}
        self._fresh = iter(range(_FIRST_ID, _LAST_ID, 2))
        self._freed: deque[int] = deque()

    def place(self, owner: tuple, port: PortPlan, changes: Changes) -> tuple[bytes | None, bytes | None]:
        """Bring a port's elements up to date; the picks of its cluster-wide and its local set."""
        held = self._ports.get(owner)
        if held is None:
            held = self._ports[owner] = _Port(self._new_id())
        sets = {False: port.cluster[:AFFINITY_LIMIT], True: port.local[:AFFINITY_LIMIT]}
        _renumber(held, set(sets[False]) | set(sets[True]))
        before = held.slots
        held.slots = {local: reslotted(before[local], targets) for local, targets in sets.items()}
        self.largest = max(self.largest, *map(len, held.slots.values()))
        self._replace(held, dict(_elements(held, TRANSPORTS[port.protocol])), changes)
        moved = sum(moves(before[local], held.slots[local]) for local in (False, True))
        if moved:
            changes["affinity-slots"].moved += moved
        first = self._class(port.affinity_seconds)
        return tuple(
            _priority(first + local << ID_BITS | held.id | local) if held.slots[local] else None
            for local in (False, True)
        )

    def drop(self, owner: tuple, changes: Changes) -> None:
        """Forget a port that has no affinity any more; nothing happens when it had none."""
        held = self._ports.pop(owner, None)
        if held is not None:
            self._replace(held, {}, changes)
            self._freed.append(held.id)

    @staticmethod
    def _replace(held: _Port, elements: Elements, changes: Changes) -> None:
        for (name, key), data in sorted(held.elements.items()):
            if elements.get((name, key)) != data:
                changes.setdefault(name, SetChange(name)).delete.append(key)
        for (name, key), data in sorted(elements.items()):
            if held.elements.get((name, key)) != data:
                changes.setdefault(name, SetChange(name)).add.append((key, data))
        held.elements = elements

    def _class(self, seconds: int) -> int:
        """The two counts that stand for a timeout: cluster-wide, and local one above."""
        found = self.classes.setdefault(seconds, FIRST_CLASS + 2 * len(self.classes))
        if found >= 1 << (32 - ID_BITS):
            raise OverflowError(f"more than {len(self.classes) - 1} different session affinity timeouts")
        return found

    def _new_id(self) -> int:
        found = next(self._fresh, None)
        if found is None:
            if not self._freed:
                raise OverflowError(f"more than {1 << (ID_BITS - 2)} service ports with session affinity in a family")
            found = self._freed.popleft()
        return found


def _renumber(held: _Port, targets: set[Target]) -> None:
    """Numbers for new endpoints, counting on from the last one given, as old ones may be remembered."""
    for gone in held.numbers.keys() - targets:
        del held.numbers[gone]
    taken = set(held.numbers.values())
    for target in sorted(targets - held.numbers.keys()):
        held.last_number = next(
            number
            for number in ((held.last_number + step - 1) % (FIRST_CLASS - 1) + 1 for step in count(1))
            if number not in taken
        )
        held.numbers[target] = held.last_number
        taken.add(held.last_number)


def _elements(held: _Port, protocol: str) -> Iterator[tuple[tuple[str, bytes], bytes]]:
    for local, targets in held.slots.items():
        number = held.id | local
        if targets:
            yield ("affinity-picks", _priority(number)), _priority(len(targets) << ID_BITS | number)
        for slot, target in enumerate(targets):
            ticket = held.numbers[target] << ID_BITS | held.id
            yield ("affinity-slots", _slot(number, slot)), _priority(ticket)
            yield ("affinity-members", _priority(ticket | local)), b""
            yield (f"affinity-{protocol}", _priority(ticket | local)), target + b"\0\0"
