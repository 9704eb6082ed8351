"""An in-memory kernel: the same programs and errors, without IP_VS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from engine.backends.ipvs.program import IpvsProgram, ServerKey, VirtualServer
from engine.backends.ipvs.sets import TYPES
from engine.kernel.interface import Applied, KernelError
from engine.model import TCP, Address, Target

_Item = TypeVar("_Item", Address, str)
_MESSAGE_BYTES = 68
_SCHEDULERS = frozenset("rr wrr lc wlc lblc lblcr dh sh sed nq mh fo ovf".split())


@dataclass
class MemoryFamily:
    """The state of one family: weights by server and target, entries by the set's short name."""

    servers: dict[ServerKey, VirtualServer] = field(default_factory=dict)
    destinations: dict[ServerKey, dict[Target, int]] = field(default_factory=dict)
    addresses: set[Address] = field(default_factory=set)
    entries: dict[str, set[str]] = field(default_factory=dict)
    rules: str = ""
    jumps: tuple[tuple[str, str], ...] = ()
    sysctls: dict[str, str] = field(default_factory=dict)


class IpvsMemory:
    """`held[family]` is the state; `connections` (by server and target) is set by tests that simulate clients."""

    def __init__(self) -> None:
        self.held: dict[int, MemoryFamily] = {}
        self.connections: dict[tuple[ServerKey, Target], int] = {}

    def apply(self, program: IpvsProgram) -> Applied:
        """Adding an existing item or deleting an absent one fails."""
        if program.start:
            start = program.start
            entries: dict[str, set[str]] = {name: set() for name in TYPES}
            self.held[program.family] = MemoryFamily(entries=entries, jumps=start.jumps, sysctls=dict(start.sysctls))
        held = self.held.get(program.family)
        if held is None:
            raise KernelError("a first program must start this family")
        for name, entry in program.entries_added:
            _add(held.entries[name], entry, f"entry of {name}")
        held.rules = program.rules or held.rules
        for address in program.addresses_added:
            _add(held.addresses, address, "address")
        self._servers(held, program)
        for address in program.addresses_deleted:
            _remove(held.addresses, address, "address")
        for name, entry in program.entries_deleted:
            _remove(held.entries[name], entry, f"entry of {name}")
        return Applied(_MESSAGE_BYTES * program.operations + len(program.rules))

    def _servers(self, held: MemoryFamily, program: IpvsProgram) -> None:
        for key, server in program.servers_added:
            if key in held.servers:
                raise KernelError(f"virtual server {key.hex()} exists already")
            held.destinations[key] = {}
            _set_server(held, key, server)
        for key, server in program.servers_changed:
            _known(held, key)
            _set_server(held, key, server)
        for key, target in program.destinations_added:
            weights = _known(held, key)
            if weights.get(target):
                raise KernelError(f"destination {target.hex()} of {key.hex()} exists already")
            weights[target] = 1
        for key, target in program.destinations_deleted:
            weights = _known(held, key)
            if target not in weights:
                raise KernelError(f"destination {target.hex()} of {key.hex()} is absent")
            if key[-3] == TCP and self.connections.get((key, target)):
                weights[target] = 0
            else:
                del weights[target]
        for key in program.servers_deleted:
            _known(held, key)
            del held.servers[key], held.destinations[key]

    def terminate(self) -> int:
        """Delete destinations at weight 0 without connections; returns the number of remaining ones."""
        waiting = 0
        for held in self.held.values():
            for key, weights in held.destinations.items():
                for target in [target for target, weight in weights.items() if not weight]:
                    if self.connections.get((key, target)):
                        waiting += 1
                    else:
                        del weights[target]
        return waiting


def _set_server(held: MemoryFamily, key: ServerKey, server: VirtualServer) -> None:
    if server.scheduler not in _SCHEDULERS:
        raise KernelError(f"can't use the IPVS proxier: no scheduler {server.scheduler!r}")
    held.servers[key] = server


def _known(held: MemoryFamily, key: ServerKey) -> dict[Target, int]:
    if key not in held.servers:
        raise KernelError(f"virtual server {key.hex()} is absent")
    return held.destinations[key]


def _add(items: set[_Item], item: _Item, what: str) -> None:
    if item in items:
        raise KernelError(f"{what} exists already: {item!r}")
    items.add(item)


def _remove(items: set[_Item], item: _Item, what: str) -> None:
    if item not in items:
        raise KernelError(f"{what} is absent: {item!r}")
    items.remove(item)
