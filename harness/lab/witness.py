"""Watches each node's kernel until it holds what the EndpointSlices say: when did this node really catch up?

    store (slices change) -> questions (address, wanted) -> a thread a node reads its kernel back -> observations

The kernel is read with the harness' own eyes (`harness.modes`), never by asking the engine.  In mode userspace, which
has no rules, the proxy's own account counts where the kernel's sockets and addresses agree with it.  It is read only
while a question is open.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from harness.behaviour import Behaviour
from harness.lab import network
from harness.lab.engines import HEALTH_PORT
from harness.lab.userspace_engine import Account
from harness.modes import module_of, userspace
from harness.modes.place import Place, View

POLL_SECONDS, RESTING = 0.01, 3.0
"""Least time between two looks, and how many times as long as a look took: large rule sets cost their reader CPU
that the engines need, so that what a look can be late by grows with the rules, a quarter of one CPU a node at most."""
GIVE_UP_SECONDS = 60.0
INTERRUPTED_LOOKS = 20
"""A look that a transaction of the engine interrupted is simply repeated; after so many in a row, less often."""
PATIENCE_SECONDS = 0.5


def ready_addresses(slices: list[dict[str, Any]]) -> dict[str, bool]:
    """Each endpoint's address and whether it is ready, over the slices of one Service."""
    return {
        endpoint["addresses"][0]: endpoint["conditions"]["ready"] for piece in slices for endpoint in piece["endpoints"]
    }


def questions(before: dict[str, bool], after: dict[str, bool]) -> dict[str, bool]:
    """What every kernel must do because of a change: take an address in (True) or let go of it (False).

    None of an endpoint that is not ready while no other is: then serving ones may stay in use (KEP-1669).
    """
    asked = {address: True for address, ready in after.items() if ready and not before.get(address)}
    if any(after.values()):
        asked |= {address: False for address, ready in before.items() if ready and not after.get(address)}
    return asked


def targets(behaviour: Behaviour | None) -> set[str]:
    """All addresses that a node sends new connections to."""
    if behaviour is None:
        return set()
    found: set[bytes] = set()
    for destination in (*behaviour.destinations.values(), *behaviour.nodeports.values()):
        for outcome in destination[:3]:
            if outcome[0] == "dnat":
                found |= {address for address, _ in outcome[1]}
    return {str(ipaddress.ip_address(address)) for address in found}


class NodeWitness:
    """One node's kernel; `report(node, address, wanted, asked, seen, until)` gets each answer, times in seconds.

    `seen` is when the kernel agreed, None when it had not by `until`: given up, or asked the contrary meanwhile.
    """

    def __init__(
        self, node: str, address: str, mode: str, report: Callable[..., None], clock: Callable[[], float]
    ) -> None:
        self.node = node
        self._address = address
        self._mode, self._report, self._clock = mode, report, clock
        self._open: dict[str, tuple[bool, float]] = {}
        self._asked = threading.Condition()
        self._ended = False
        self._interrupted = 0
        self._thread = threading.Thread(target=self._run, name=f"witness-{node}", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer nothing more."""
        with self._asked:
            self._ended = True
            self._asked.notify()
        self._thread.join()

    @property
    def open_questions(self) -> int:
        """How many answers are still to come."""
        return len(self._open)

    def ask(self, address: str, wanted: bool) -> None:
        """When does the kernel hold the address (or not)? A newer question replaces one about the same address."""
        with self._asked:
            now = self._clock()
            if address in self._open:
                self._report(self.node, address, *self._open[address], None, now)
            self._open[address] = wanted, now
            self._asked.notify()

    def _run(self) -> None:
        with ExitStack() as stack:
            view = self._view(stack)
            while self._wait():
                began = time.monotonic()
                self._look(view)
                time.sleep(max(POLL_SECONDS, RESTING * (time.monotonic() - began)))

    def _view(self, stack: ExitStack) -> View:
        place = Place("netns", self._socket, lambda command, stdin: network.run(self.node, command, stdin))
        if self._mode == "userspace":
            # Its proxy is a process of the engine's: no second one may be opened to look.
            return userspace.KernelView(Account(self._address, HEALTH_PORT), place)
        return stack.enter_context(module_of(self._mode).real(place)).view

    def _socket(self, family: int, kind: int, protocol: int):
        with network.entered(self.node):
            return socket.socket(family, kind, protocol)

    def _wait(self) -> bool:
        with self._asked:
            self._asked.wait_for(lambda: self._open or self._ended)
            return not self._ended

    def _look(self, view) -> None:
        try:
            held = targets(view.behaviour(4))
            self._interrupted = 0
        except (ValueError, OSError):
            held = None
            self._interrupted += 1
            if self._interrupted > INTERRUPTED_LOOKS:
                time.sleep(PATIENCE_SECONDS)
        seen = self._clock()
        with self._asked:
            for address, (wanted, asked) in list(self._open.items()):
                agrees = held is not None and (address in held) is wanted
                if agrees or seen - asked > GIVE_UP_SECONDS:
                    del self._open[address]
                    self._report(self.node, address, wanted, asked, seen if agrees else None, seen)
