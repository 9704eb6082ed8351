"""A node whose kernel has IP_VS, within a World: created once, programmed again by every test."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from engine.config import ProxyConfig
from engine.kernel.interface import Applied
from engine.kernel.ipvs.real import iptables_variant
from engine.proxier import Proxier
from harness.acceptance.cases import Case
from harness.acceptance.observer import PacketObserver, addresses_of
from harness.judge.readback import ipvs as check
from harness.modes import ipvs
from harness.modes.opened import Opened
from harness.places.place import Place
from harness.places.world import World

TURNS = 3
"""Attempts an endpoint: they take turns, so fewer than chance would need show them all."""
Event = tuple[str, str, bytes]


class IpvsNode:
    """`observer_of` is a judge for one case; `held` what the kernel holds, `command` a tool's output there."""

    def __init__(self, world: World, place: Place, opened: Opened) -> None:
        self.world, self.place, self.kernel, self.view = world, place, opened.kernel, opened.view
        self.observer = PacketObserver(world, self, lambda: ipvs.forget_clients(place), attempts=TURNS)
        self.memory = ipvs.memory()
        self._families: tuple[int, ...] = (4,)
        self._restore = {family: iptables_variant(place.run, family) for family in (4, 6)}

    def apply(self, program) -> Applied:
        """Applies programs to the kernel and to one in memory; only needed families, as every tool costs time here."""
        remembered = self.memory.kernel.apply(program)
        return self.kernel.apply(program) if program.family in self._families else remembered

    def proxier(self, config: ProxyConfig, events: Iterable[Event] = (), kernel=None) -> Proxier:
        """One that starts on what the kernel holds from before, synced after the events."""
        made = Proxier("ipvs", config, kernel or self, time.perf_counter, "n1")
        observe(made, events)
        return made

    @contextmanager
    def observer_of(self, case: Case, _mode: str = "ipvs") -> Iterator[PacketObserver]:
        """As `harness.judge.packets.open_observer`, in this world."""
        config = case.proxy_config()
        pods, clients = addresses_of(case)
        own = list(config.local_addresses or config.node_addresses) + clients
        self.world.add_addresses(own)
        self.world.route_to_pods([a for a in pods if a not in config.local_addresses])
        self.memory, self._families = ipvs.memory(), case.families
        try:
            yield self.observer
        finally:
            self._families = (4,)
            self.world.remove_addresses([a for a in dict.fromkeys(own) if a[0] != 127 and a != bytes(15) + b"\1"])

    def held(self, family: int = 4) -> check.Read:
        """The kernel's state as printed by the tools; of its rules those in our chains and the jumps to them."""
        read = self.view.read(family)
        check.read_rules(self.command(f"{self._restore[family]}-save"), read)
        return read

    def differences(self, family: int = 4) -> list[str]:
        """Differences between the real and the in-memory kernel."""
        kernel, memory = self.held(family), self.memory.view.read(family)
        # A destination that the test before has talked to waits at weight 0 (IPVS-08).
        kernel.servers = {s: {t: w for t, w in weights.items() if w} for s, weights in kernel.servers.items()}
        parts = ("servers", "options", "sets", "addresses")
        found = [p for p in parts if getattr(kernel, p) != getattr(memory, p)]
        ours, theirs = (_by_chain(read) for read in (memory, kernel))
        return found + [f"rules of {chain}" for chain in ours if ours[chain] != theirs.get(chain)]

    def command(self, *words: str) -> str:
        """Standard output of a tool in the node's namespace; it must succeed."""
        done = self.place.run(list(words), b"")
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


def _by_chain(read: check.Read) -> dict[tuple[str, str], list[str]]:
    chains: dict[tuple[str, str], list[str]] = {}
    for table, lines in read.rules.items():
        for line in lines:
            chains.setdefault((table, line.split()[1]), []).append(line)
    return chains


def observe(proxier: Proxier, events: Iterable[Event]) -> Proxier:
    """Observe and sync."""
    for event in events:
        proxier.state.observe(*event)
    proxier.sync()
    return proxier


@contextmanager
def open_node() -> Iterator[IpvsNode]:
    """A namespace of its own as the node."""
    with World(user=False) as world:
        place = Place("netns", world.node.socket, world.node.run)
        with ipvs.real(place) as opened:
            yield IpvsNode(world, place, opened)
