"""Ways to observe which endpoints a node's rules use, and since when: by kernel notifications if available.

`Elements`      nftables: each element of an endpoint map is announced; maps are read once, and after a loss
`Transactions`  iptables-nft and external proxies: transactions are announced; rules are read after each
`Polling`       others: rules are polled; times are late by up to the polling interval
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, Queue
from typing import NamedTuple, Protocol

from engine.kernel.netlink import (
    NETFILTER,
    NEW_GENERATION,
    NFTABLES_GROUP,
    Message,
    NetlinkError,
    Notices,
    Subscription,
    attributes,
)
from harness.judge.behaviour import Behaviour
from harness.judge.readback import elements as readback
from harness.lab.answers import Moments
from harness.modes import mode_of
from harness.modes.mode import Notifications
from harness.modes.opened import ModeView
from harness.places.place import Place

_DELTABLE, _DELSET, _NEWELEMENTS, _DELELEMENTS = (10 << 8 | n for n in (2, 11, 12, 14))
_IPV4, _HEAD_BYTES = 2, 4
_FAMILIES = {_IPV4: "IPv4", 10: "IPv6"}
_QUEUE_LENGTH = 10_000
"""If it is full, notifications stay in the kernel's buffer, which reports a loss when it overruns."""
_TABLE = b"kube-proxy\0"
_MAPS = ("tcp-endpoints", "udp-endpoints", "sctp-endpoints")
WAIT_SECONDS, END_SECONDS = 0.05, 1.0
POLL_SECONDS, RESTING = 0.01, 3.0
"""Minimum pause between two polls, and the pause as a multiple of a poll's duration: reading large rule sets must not
take more than a quarter of one CPU per node from the engines, so the delay grows with the rules."""
INTERRUPTED_READS = 20
_ADDRESS = re.compile(rb"(?<![\w.])\d+\.\d+\.\d+\.\d+(?![\d.])")
"""Does not match within a chain's name: kube-proxy empties a removed endpoint's chain at once and deletes it later."""


class NodeAddresses(NamedTuple):
    """The addresses that a node sends new connections to, None if they cannot be read now, and since when."""

    held: set[str] | None
    at: float


class RulesWatcher(Protocol):
    """`source` is the origin of its times; `moments` are the times of all transactions by family, None if unknown.

    `rewrites` are those of transactions that deleted a whole table, None if proxies do not rewrite their rules so.
    """

    source: str

    @property
    def moments(self) -> Moments | None: ...

    @property
    def rewrites(self) -> list[float] | None: ...

    def observe(self) -> NodeAddresses:
        """The state after the next change, or after a short time."""

    def close(self) -> None:
        """Stop observing."""


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


def watcher_for(
    mode: str, place: Place, view: ModeView, clock: Callable[[], float], external: bool = False
) -> RulesWatcher:
    """The best way available for the mode; `external`: the rules are those of an external proxy in an unknown form."""
    notices = mode_of(mode).notices(place)
    read = (lambda: mentioned(mode, place)) if external else (lambda: _read(view))
    if notices is Notifications.TRANSACTIONS or (notices is Notifications.ELEMENTS and external):
        return Transactions(place, read, clock)
    if notices is Notifications.ELEMENTS:
        return Elements(place, clock)
    return Polling(read, clock)


def mentioned(mode: str, place: Place) -> set[str]:
    """All IPv4 addresses that occur in the rules."""
    texts = [place.run(list(command), b"").stdout for command in mode_of(mode).listings]
    return {each.decode() for text in texts for each in _ADDRESS.findall(text)}


class _Notifications:
    """Listens to the rules' transactions of one network namespace.

    A separate thread records the time of each notification, as reading large rule sets takes long.
    """

    source = "kernel notification"

    def __init__(self, place: Place, clock: Callable[[], float]) -> None:
        self.moments: Moments = {"IPv4": [], "IPv6": []}
        self.rewrites: list[float] = []
        self.last = 0.0
        """When the last transaction took effect; 0 if none was announced."""
        self.lost = False
        self._whole, self._families = False, set[int]()
        self._clock = clock
        self._subscription = Subscription(
            place.make_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER), [NFTABLES_GROUP]
        )
        self._waiting: deque[tuple[float, Message]] = deque()
        self._received: Queue[tuple[float, Notices] | NetlinkError] = Queue(_QUEUE_LENGTH)
        threading.Thread(target=self._receive, name="notifications", daemon=True).start()

    def _receive(self) -> None:
        try:
            while (notices := self._subscription.receive()) is not None:
                self._received.put((self._clock(), notices))
        except NetlinkError as error:
            self._received.put(error)

    def consume(self, seconds: float, take: Callable[[Message], None] = lambda message: None) -> bool:
        """Consume notifications up to the end of one transaction; returns whether there was one in time."""
        while True:
            if not self._waiting and not self._fetch(seconds):
                return False
            at, message = self._waiting.popleft()
            take(message)
            if message.kind == NEW_GENERATION:
                self._end(at)
                return True
            self._whole = self._whole or message.kind == _DELTABLE
            self._families.add(message.body[0])
            seconds = END_SECONDS  # the rest of a transaction follows at once

    def _fetch(self, seconds: float) -> bool:
        try:
            found = self._received.get(timeout=seconds)
        except Empty:
            return False
        if isinstance(found, NetlinkError):
            raise found
        at, notices = found
        self.lost = self.lost or notices.lost
        self._waiting.extend((at, message) for message in notices.messages)
        return bool(self._waiting)

    def _end(self, at: float) -> None:
        self.last = at
        for family in self._families:
            self.moments.setdefault(_FAMILIES.get(family, "both"), []).append(at)
        if self._whole:
            self.rewrites.append(at)
        self._whole, self._families = False, set()

    def close(self) -> None:
        """End `consume`."""
        self._subscription.close()


class Elements:
    """A copy of the endpoint maps of table `ip kube-proxy`, updated from kernel notifications."""

    source = _Notifications.source

    def __init__(self, place: Place, clock: Callable[[], float]) -> None:
        self._notifications, self._clock = _Notifications(place, clock), clock
        self.moments, self.close = self._notifications.moments, self._notifications.close
        self.rewrites = self._notifications.rewrites
        self._reader = place.make_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
        self._maps: dict[str, dict[bytes, bytes]] = {}
        self._at = 0.0
        self._read()

    def observe(self) -> NodeAddresses:
        """See `RulesWatcher.observe`."""
        if self._notifications.consume(WAIT_SECONDS, self._take):
            self._at = self._notifications.last
        if self._notifications.lost:
            self._notifications.lost, self._at = False, self._clock()
            self._read()
        packed = {data[:4] for elements in self._maps.values() for data in elements.values()}
        return NodeAddresses({socket.inet_ntoa(address) for address in packed}, self._at)

    def _read(self) -> None:
        for name in _MAPS:
            try:
                self._maps[name] = readback.dump(self._reader, 4, name)
            except readback.NoSuchSet:
                self._maps[name] = {}

    def _take(self, message: Message) -> None:
        if message.kind not in (_DELTABLE, _DELSET, _NEWELEMENTS, _DELELEMENTS) or message.body[0] != _IPV4:
            return
        found = attributes(message.body[_HEAD_BYTES:])
        if found.get(1) != _TABLE:
            return
        if message.kind == _DELTABLE:
            self._maps = {name: {} for name in _MAPS}
            return
        elements = self._maps.get(found.get(2, b"").rstrip(b"\0").decode())
        if elements is None:
            return
        if message.kind == _DELSET:
            elements.clear()
            return
        for key, data in _elements(found.get(3, b"")):
            elements.pop(key, None) if message.kind == _DELELEMENTS else elements.update({key: data})


def _elements(run: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, data) of consecutive elements, each a separate attribute."""
    offset = 0
    while offset + 4 <= len(run):
        length = struct.unpack_from("=H", run, offset)[0]
        if length < 4:
            return
        found = attributes(run[offset + 4 : offset + length])
        yield _value(found.get(1, b"")), _value(found.get(2, b""))
        offset += (length + 3) & ~3


def _value(data: bytes) -> bytes:
    return attributes(data).get(1, b"")


class Transactions:
    """Rules read back after each transaction, whose time is that of their effect."""

    source, rewrites = _Notifications.source, None

    def __init__(self, place: Place, read: Callable[[], set[str] | None], clock: Callable[[], float]) -> None:
        self._notifications, self._read = _Notifications(place, clock), read
        self.moments, self.close = self._notifications.moments, self._notifications.close
        self._held: set[str] | None = None
        self._read_at = -1.0

    def observe(self) -> NodeAddresses:
        """See `RulesWatcher.observe`; a reading interrupted by a transaction is repeated."""
        self._notifications.consume(WAIT_SECONDS)
        for _ in range(INTERRUPTED_READS):
            self._notifications.lost = False
            while self._notifications.consume(0):
                pass
            at = self._notifications.last
            if self._held is not None and at == self._read_at:
                break
            self._held, self._read_at = self._read(), at
        return NodeAddresses(self._held, self._read_at)


class Polling:
    """Rules read back by polling."""

    source, moments, rewrites = "readback", None, None

    def __init__(self, read: Callable[[], set[str] | None], clock: Callable[[], float]) -> None:
        self._read, self._clock = read, clock
        self._took = 0.0

    def observe(self) -> NodeAddresses:
        """See `RulesWatcher.observe`."""
        time.sleep(max(POLL_SECONDS, RESTING * self._took))
        began = time.monotonic()
        held = self._read()
        self._took = time.monotonic() - began
        return NodeAddresses(held, self._clock())

    def close(self) -> None:
        """Nothing is open."""


def _read(view: ModeView) -> set[str] | None:
    try:
        return targets(view.behaviour(4))
    except (ValueError, LookupError, OSError, readback.KernelReadError):
        return None  # the rules are changing, or not in a proxy's form
