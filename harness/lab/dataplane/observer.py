"""Observes when each node's kernel has caught up with the EndpointSlices.

    store (slices change) -> questions (address, wanted) -> one thread per node -> observations

Times are those of kernel notifications if the mode has them (`rules_watcher`); the engine is not queried.  In mode
userspace, which has no rules, the state reported by the proxy counts if the kernel's sockets and addresses match it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack

from harness.judge.oracle import Oracle
from harness.judge.readback.check_result import UNREADABLE, CheckResult
from harness.judge.readback.elements import KernelReadError
from harness.judge.verify import readback
from harness.kube.proxy import HEALTH_PORT
from harness.kube.resources import Manifest
from harness.lab.answers import Moments, Observation
from harness.lab.dataplane import network
from harness.lab.dataplane.account import ReportedState
from harness.lab.dataplane.rules_watcher import NodeAddresses, RulesWatcher, watcher_for
from harness.modes import mode_of
from harness.modes.opened import ModeView
from harness.places.place import Place

GIVE_UP_SECONDS = 60.0


def used_addresses(slices: list[Manifest], node: str) -> dict[str, bool]:
    """Each endpoint's address and whether a node uses it, over the slices of one Service.

    It uses those that are ready.  With policy Local, while none of its own is ready, it also uses its own that are
    terminating but still serving (KEP-1669).
    """
    endpoints = [{"conditions": {}, **end} for piece in slices for end in piece.get("endpoints") or ()]
    here = [endpoint for endpoint in endpoints if endpoint.get("nodeName") == node]
    draining = not any(is_ready_endpoint(endpoint) for endpoint in here)
    found = {endpoint["addresses"][0]: is_ready_endpoint(endpoint) for endpoint in endpoints}
    for endpoint in here if draining else ():
        conditions = endpoint["conditions"]
        found[endpoint["addresses"][0]] |= bool(conditions.get("terminating") and conditions.get("serving"))
    return found


def is_ready_endpoint(endpoint: Manifest) -> bool:
    """Whether the endpoint is ready; unknown counts as ready."""
    return (endpoint.get("conditions") or {}).get("ready") is not False


def questions(before: dict[str, bool], after: dict[str, bool]) -> dict[str, bool]:
    """The required effects of a change on every kernel: addresses added (True) or removed (False).

    Excludes endpoints that are not ready while no other is: serving ones may then stay in use (KEP-1669).
    """
    asked = {address: True for address, ready in after.items() if ready and not before.get(address)}
    if any(after.values()):
        asked |= {address: False for address, ready in before.items() if ready and not after.get(address)}
    return asked


class KernelObserver:
    """One node's kernel; `report` is called with each answer as an observation, times in seconds.

    `external`: the rules are those of another proxy than the engine, of which only the addresses can be parsed.
    """

    def __init__(
        self,
        node: str,
        address: str,
        mode: str,
        report: Callable[[Observation], None],
        clock: Callable[[], float],
        external: bool = False,
    ) -> None:
        self.node = node
        self._address = address
        self._mode, self._report, self._clock, self._external = mode, report, clock, external
        self._open: dict[str, tuple[bool, float]] = {}
        self._asked = threading.Condition()
        self._ended = False
        self._watcher: RulesWatcher | None = None
        self._thread = threading.Thread(target=self._run, name=f"observer-{node}", daemon=True)

    def start(self) -> None:
        """Start answering questions."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering questions."""
        with self._asked:
            self._ended = True
            self._asked.notify()
        self._thread.join()

    @property
    def open_questions(self) -> int:
        """The number of unanswered questions."""
        return len(self._open)

    @property
    def moments(self) -> Moments | None:
        """When each transaction on the node's rules took effect, by family; None if they are not announced."""
        return self._watcher.moments if self._watcher else None

    @property
    def rewrites(self) -> list[float] | None:
        """When a whole table of the node's rules was replaced or deleted; None if that cannot be detected."""
        return self._watcher.rewrites if self._watcher else None

    def ask(self, address: str, wanted: bool) -> None:
        """Ask when the kernel starts or stops using the address; a newer question about it replaces this one."""
        with self._asked:
            now = self._clock()
            if address in self._open:
                self._answer(address, None, now)
            self._open[address] = wanted, now
            self._asked.notify()

    def check_kernel(self, oracle: Oracle) -> CheckResult:
        """Compare the current state of the node's kernel with the oracle."""
        with ExitStack() as stack:
            try:
                return readback(self._view(stack), oracle, self._mode, mode_of(self._mode).families)
            except (OSError, KernelReadError, *UNREADABLE) as error:
                return CheckResult([f"the kernel cannot be read: {error}"], {}, [])

    def _run(self) -> None:
        with ExitStack() as stack:
            self._watcher = watcher_for(self._mode, self._place, self._view(stack), self._clock, self._external)
            stack.callback(self._watcher.close)
            while not self._ended:
                if self._watcher.moments is None:
                    self._wait()
                self._settle(self._watcher.observe(), self._watcher.source)

    @property
    def _place(self) -> Place:
        return Place("netns", self._socket, lambda command, stdin: network.run(self.node, command, stdin))

    def _view(self, stack: ExitStack) -> ModeView:
        mode = mode_of(self._mode)
        if mode.beside:
            return mode.beside(ReportedState(self._address, HEALTH_PORT), self._place)
        return stack.enter_context(mode.real(self._place)).view

    def _socket(self, family: int, kind: int, protocol: int) -> socket.socket:
        with network.entered(self.node):
            return socket.socket(family, kind, protocol)

    def _wait(self) -> None:
        """Wait until there are questions, as polling is expensive."""
        with self._asked:
            self._asked.wait_for(lambda: self._open or self._ended)

    def _settle(self, snapshot: NodeAddresses, source: str) -> None:
        with self._asked:
            now = self._clock()
            for address, (wanted, asked) in list(self._open.items()):
                if snapshot.held is not None and (address in snapshot.held) is wanted:
                    self._answer(address, max(asked, snapshot.at), max(asked, snapshot.at), source)
                elif now - asked > GIVE_UP_SECONDS:
                    self._answer(address, None, now, source)

    def _answer(self, address: str, seen: float | None, until: float, source: str = "") -> None:
        wanted, asked = self._open.pop(address)
        self._report(Observation(self.node, address, wanted, asked, seen, until, source))
