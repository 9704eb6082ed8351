"""A separate process that runs while rules change: connects continuously and listens to the kernel's notifications.

Started by `harness.judge.packets.lookout` with socket descriptors: netlink first, then two packet sockets per family,
one for pods and one for the outside.  Input and output are JSON lines: a list of targets begins a watch, `null` ends it
and is answered with what was observed.  The process ends at end of file.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import sys
import time
from itertools import count
from typing import Any

from engine.kernel.netlink.wire import messages
from harness.judge.packets.generations import generation_id
from harness.judge.packets.replacements import ADDED, DELETED, Replacements
from harness.places.wire import parse, request

EVERY_SECONDS, GRACE_SECONDS = 0.001, 2.0
_FIRST_PORT, _LAST_PORT = 40_000, 60_000
LINK = bytes.fromhex("020000000001")
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_NFTABLES, _NEWGEN = 10, 15
_REMOVALS = {2, 5, 8}
"""NFT_MSG_DELTABLE, DELCHAIN and DELRULE."""


class Agent:
    """Runs one watch at a time."""

    def __init__(self, descriptors: list[int]) -> None:
        netlink, *links = (socket.socket(fileno=number) for number in descriptors)
        self._netlink, self._links = netlink, dict(zip((4, 6), zip(links[::2], links[1::2], strict=True), strict=False))
        self._numbers, self._ports = count(1 << 24), count()
        self._poll = select.poll()
        for sock in (netlink, *links):
            sock.setblocking(False)
            self._poll.register(sock, select.POLLIN)
        self._poll.register(0, select.POLLIN)
        self._by_descriptor = {sock.fileno(): sock for sock in links}
        self._targets: list[list[Any]] = []
        self._begin([])

    def _begin(self, targets: list[list[Any]]) -> None:
        self._targets = self._asked = targets
        self._sent: dict[int, tuple[int, float]] = {}
        self._arrived: set[int] = set()
        self._generations: list[tuple[float, int, int, bool]] = []
        self._removing: dict[int, bool] = {}
        self._replacements = Replacements()
        self._overrun = False

    def serve(self) -> None:
        """Serve until the harness closes the input."""
        due = time.perf_counter()
        while True:
            now = time.perf_counter()
            if self._targets and now >= due:
                self._probe()
                due = max(due + EVERY_SECONDS, now)
            wait = max(0.0, due - time.perf_counter()) * 1000 if self._targets else None
            for descriptor, _ in self._poll.poll(wait):
                if descriptor == 0:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    self._command(json.loads(line))
                    due = time.perf_counter()
                else:
                    self._read(descriptor)

    def _command(self, targets: list[list[Any]] | None) -> None:
        if targets is not None:
            self._drain()
            self._begin(targets)
            if targets:
                self._probe()
            print("{}", flush=True)
            return
        for _ in self._targets:
            self._probe()
        until = time.perf_counter() + GRACE_SECONDS
        self._targets = []
        self._drain()
        while len(self._arrived) < len(self._sent) and time.perf_counter() < until:
            for descriptor, _ in self._poll.poll(1):
                if descriptor:
                    self._read(descriptor)
        probes = [[target, at, number in self._arrived] for number, (target, at) in self._sent.items()]
        seen = {"generations": self._generations, "apart": self._replacements.apart, "overrun": self._overrun}
        print(json.dumps(seen | {"probes": probes}), flush=True)

    def _drain(self) -> None:
        """Read everything that is pending."""
        while ready := [descriptor for descriptor, _ in self._poll.poll(0) if descriptor]:
            for descriptor in ready:
                self._read(descriptor)

    def _probe(self) -> None:
        number = next(self._numbers)
        place = number % len(self._targets)
        interface, source, destination, protocol, port = self._targets[place]
        source, destination = bytes.fromhex(source), bytes.fromhex(destination)
        family = 4 if len(source) == 4 else 6
        own = _FIRST_PORT + next(self._ports) % (_LAST_PORT - _FIRST_PORT)
        packet = request(number, protocol, (source, own), (destination, port))
        self._sent[number] = place, time.perf_counter()
        self._links[family][0].sendto(packet, (interface, _ETHERTYPES[family], 0, 0, LINK))

    def _read(self, descriptor: int) -> None:
        if descriptor == self._netlink.fileno():
            self._hear()
            return
        try:
            packet, (_, _, direction, *_) = self._by_descriptor[descriptor].recvfrom(65536)
        except BlockingIOError:
            return
        seen = parse(packet) if direction != socket.PACKET_OUTGOING else None
        if seen and seen.kind == "request" and seen.number in self._sent:
            *_, asked, _, port = self._asked[self._sent[seen.number][0]]
            if seen.destination != (bytes.fromhex(asked), port):  # otherwise it passed untranslated
                self._arrived.add(seen.number)

    def _hear(self) -> None:
        try:
            data = self._netlink.recv(1 << 20)
        except OSError as error:
            self._overrun |= error.errno == errno.ENOBUFS
            return
        now = time.perf_counter()
        for each in messages(data):
            subsystem, what = divmod(each.kind, 256)
            if subsystem != _NFTABLES:
                continue
            if what == _NEWGEN:
                number = generation_id(each.body)
                for family, removes in self._removing.items() or ((0, False),):
                    self._generations.append((now, number, family, removes))
                self._removing = {}
                self._replacements.end(now)
            elif what in (ADDED, DELETED):
                self._removing.setdefault(each.body[0], False)
                self._replacements.hear(what, each.body)
            else:
                family = each.body[0]
                self._removing[family] = self._removing.get(family, False) or what in _REMOVALS


if __name__ == "__main__":
    Agent([int(text) for text in sys.argv[1:]]).serve()
