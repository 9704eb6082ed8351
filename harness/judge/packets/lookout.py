"""Observes what happens during syncs: a separate process that connects continuously and listens to the kernel.

The engine and the harness share an interpreter; a thread in it would stall whenever they compute.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from engine.kernel.interface import KernelError
from engine.kernel.netlink import Connection, NetlinkError, nfnetlink, widen
from harness.judge.packets.generations import generation_id
from harness.judge.packets.questions import Question
from harness.places import vm
from harness.places.place import Place

NETFILTER, GROUP_NFTABLES = 12, 7
_GETGEN = 10 << 8 | 16
ANSWER_SECONDS = 30.0
_BUFFER_BYTES = 8 << 20


class Generation(NamedTuple):
    """A generation announced by the kernel: time (perf_counter), id, family, whether chains or rules were removed."""

    at: float
    id: int
    family: int
    removes: bool


class WatchReport(NamedTuple):
    """One watch: generations in order, seconds without an arrival by target, connections attempted and lost.

    `apart`: by nf_tables set, the longest time that an element was missing before a later generation restored it.
    `overrun`: the kernel announced more than could be received, so that `generations` is incomplete.
    """

    generations: tuple[Generation, ...]
    gaps: dict[int, float]
    tried: int
    lost: int
    overrun: bool = False
    apart: Mapping[str, float] = MappingProxyType({})

    @property
    def half_done_seconds(self) -> float:
        """Longest time between a generation that removed something and the last one of the same family."""
        last = {generation.family: generation.at for generation in self.generations}
        rules = (last[each.family] - each.at for each in self.generations if each.removes)
        return max(*rules, *self.apart.values(), 0.0, 0.0)


class Lookout:
    """Context manager for the process; `watch` begins, `report` ends a watch. KernelError if it does not answer."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> Lookout:
        self._asker = Connection(self._place.make_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER))
        netlink = self._place.make_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
        widen(netlink, receive_bytes=_BUFFER_BYTES)
        netlink.bind((0, 1 << GROUP_NFTABLES - 1))
        sockets = [netlink, *(self._place.world.links() if self._place.world else ())]
        numbers = [sock.fileno() for sock in sockets]
        command = [sys.executable, "-m", "harness.judge.packets.lookout_agent", *map(str, numbers)]
        # A new session: Ctrl-C must reach only the harness; the process ends at end of file.
        self._process = subprocess.Popen(
            command, pass_fds=numbers, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        for sock in sockets:
            sock.close()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._asker.close()

    def watch(self, targets: Sequence[Question]) -> None:
        """Begin to connect to the targets in turn, and to record generations."""
        interface = "veth"
        if self._place.world:
            interface = self._place.world.pods_interface
        packets = [question.packet for question in targets]
        self._say([[interface, p.source.hex(), p.destination.hex(), p.protocol, p.port] for p in packets])

    def generation(self) -> int | None:
        """The id of the kernel's current generation; None if not available."""
        try:
            return generation_id(self._asker.ask(nfnetlink(_GETGEN, 0, 0, b"")))
        except (NetlinkError, KeyError):
            return None

    def report(self) -> WatchReport:
        """End the watch and return what was observed."""
        report = self._say(None)
        probes = report["probes"]
        lost = sum(not arrived for _, _, arrived in probes)
        found = tuple(Generation(*each) for each in report["generations"])
        return WatchReport(found, gaps(probes), len(probes), lost, report["overrun"], report["apart"])

    def _say(self, what: list[Any] | None) -> dict[str, Any]:
        ours, theirs = self._process.stdin, self._process.stdout
        assert ours and theirs, "both are pipes"
        try:
            ours.write(json.dumps(what).encode() + b"\n")
            ours.flush()
        except OSError:
            raise KernelError("the lookout process has ended") from None
        seconds = ANSWER_SECONDS * vm.patience()
        if not select.select([theirs], [], [], seconds)[0]:
            raise KernelError(f"the lookout process did not answer within {seconds:g} s")
        line = theirs.readline()
        if not line:
            raise KernelError("the lookout process has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def gaps(probes: Iterable[tuple[int, float, bool]]) -> dict[int, float]:
    """By target, the longest time from a lost connection to the next that arrived, or to the last one lost."""
    begun: dict[int, float] = {}
    found: dict[int, float] = {}
    for target, at, arrived in probes:
        if not arrived:
            begun.setdefault(target, at)
        if target in begun:
            found[target] = max(found.get(target, 0.0), at - begun[target])
        if arrived:
            begun.pop(target, None)
    return found
