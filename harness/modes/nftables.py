"""nftables mode: tables `ip kube-proxy` and `ip6 kube-proxy`."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property

import msgspec

from engine.kernel.netlink import NETFILTER, widen
from engine.kernel.netlink.wire import messages
from engine.kernel.nftables import NftablesKernel, NftablesMemory
from harness.judge.behaviour import Behaviour
from harness.judge.oracle import Settings
from harness.judge.readback import elements as readback
from harness.judge.readback.check_result import CheckResult
from harness.judge.readback.nftables import behaviour_of
from harness.judge.readback.nftables_changes import Follower, concerned, hear, unannounced
from harness.judge.readback.nftables_judge import OF_VERSIONS, SETS, NftablesState, judge
from harness.judge.trace.nftables import tracer
from harness.judge.trace.ruleset import Ruleset, Table
from harness.modes.mode import Mode, Notifications
from harness.modes.opened import Opened
from harness.places.place import Place, tool_version


class MemoryView:
    """The state of a `NftablesMemory`."""

    def __init__(self, kernel: NftablesMemory) -> None:
        self._kernel = kernel

    def read(self, family: int) -> NftablesState | None:
        """None when nothing of the family was programmed."""
        found = self._kernel.tables.get(family)
        return (
            NftablesState({name: dict(found.get(name, {})) for name in (*SETS, *OF_VERSIONS)}, None, None)
            if found
            else None
        )

    def check(self, family: int, expected: Behaviour, settings: Settings) -> CheckResult:
        """As `CheckedView.check`."""
        return judge(family, self.read(family), expected, settings)

    def behaviour(self, family: int) -> Behaviour | None:
        """As `ModeView.behaviour`."""
        state = self.read(family)
        return behaviour_of(family, state.sets) if state else None


READABLE = ("--terse", "--numeric-protocol")
"""Options of nft: without elements, and without looking up protocol names, for which it reads a file each time."""
GROUP_NFTABLES, NOTICES_BYTES, RECEIVE_BYTES = 7, 64 << 20, 1 << 20
LEFT_OVER = "kube-proxy-shadow"
"""The shadow table, which is active while the rules of an earlier run are replaced."""


class _Followed:
    """One family as it was read, and what was expected when it was last compared."""

    def __init__(self, family: int, state: NftablesState, expected: Behaviour) -> None:
        self._family, self._state, self.expected = family, state, expected

    @cached_property
    def follower(self) -> Follower:
        """Made when the first change is announced: after the last reading there is none."""
        return Follower(4 if self._family == 4 else 16, self._state.sets, self._state.verbs or {})


class KernelView:
    """The kernel's tables: elements read by netlink, rules as listed by nft.

    After `follow` it listens to the kernel, from its next complete reading on.
    """

    def __init__(self, sock: socket.socket, place: Place) -> None:
        self._sock, self._place = sock, place
        self._listener: socket.socket | None = None
        self._asked = False
        self._followed: dict[int, _Followed] = {}

    def close(self) -> None:
        """Stop listening."""
        if self._listener:
            self._listener.close()

    def read(self, family: int) -> NftablesState | None:
        """None when nothing of the family was programmed."""
        verbs: readback.Verbs = {}
        sets = self._elements(family, verbs)
        return None if sets is None else NftablesState(sets, verbs, self._rules(family))

    def _rules(self, family: int) -> Table:
        ip = "ip" if family == 4 else "ip6"
        listed = self._place.run(["nft", *READABLE, "list", "table", ip, "kube-proxy"], b"")
        rules = Ruleset()
        rules.feed(listed.stdout.decode())
        return rules.tables.get((ip, "kube-proxy")) or Table()

    def _elements(self, family: int, verbs: readback.Verbs) -> dict[str, dict[bytes, bytes]] | None:
        found: dict[str, dict[bytes, bytes]] = {}
        for name in (*SETS, *OF_VERSIONS):
            try:
                found[name] = readback.dump(self._sock, family, name, verbs)
            except readback.NoSuchSet:
                found[name] = {}
        return found if any(found.values()) else None

    def check(self, family: int, expected: Behaviour, settings: Settings) -> CheckResult:
        """As `CheckedView.check`; what was announced since the last reading must be all that has changed."""
        if self._asked:
            self._listen()
        followed = self._followed.pop(family, None)
        try:
            state = self.read(family)
            left_over = self._left_over(family)
        except (ValueError, readback.KernelReadError) as error:
            return CheckResult([f"the table cannot be read: {error}"], {}, [])
        found = judge(family, state, expected, settings)
        if state and followed:
            found.differences.extend(unannounced(followed.follower.all_elements(), state.sets))
        if state and self._asked:
            self._followed[family] = _Followed(family, state, expected)
        return msgspec.structs.replace(found, differences=found.differences + left_over)

    def follow(self) -> None:
        """As `harness.judge.verify.IncrementalView.follow`."""
        self._asked = True

    def changed(self, family: int, expected: Behaviour, settings: Settings) -> CheckResult | None:
        """As `harness.judge.verify.IncrementalView.changed`."""
        if family in self._followed:
            self._listen()
        if family not in self._followed:
            return None
        follower, before = self._followed[family].follower, self._followed[family].expected
        sets, part = concerned(follower, before, expected)
        table = self._rules(family) if follower.rules_changed else None
        found = judge(
            family, NftablesState(sets, follower.verbs, table), expected, settings, part, follower.hairpins_gone
        )
        follower.settle()
        self._followed[family].expected = expected
        return found

    def _listen(self) -> None:
        """Apply the announced changes; if they are incomplete or concern whole tables, everything is read again."""
        if self._listener is None:
            self._listener = _netlink(self._place)
            widen(self._listener, receive_bytes=NOTICES_BYTES)
            self._listener.bind((0, 1 << GROUP_NFTABLES - 1))
        while True:
            try:
                data = self._listener.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: some were lost
                self._followed.clear()
                continue
            for each in messages(data):
                if not hear(self._followed, each.kind, each.body):
                    self._followed.clear()

    def _left_over(self, family: int) -> list[str]:
        """A restart's shadow table has hooks too: once rules are written, its old state must not affect packets."""
        return [f"table {LEFT_OVER} is still there"] if readback.has_table(self._sock, family, LEFT_OVER) else []

    def behaviour(self, family: int) -> Behaviour | None:
        """As `ModeView.behaviour`."""
        found = self._elements(family, {})
        return behaviour_of(family, found) if found else None


def memory() -> Opened:
    """An in-memory kernel."""
    kernel = NftablesMemory()
    return Opened(kernel, MemoryView(kernel), {})


@contextmanager
def real(place: Place) -> Iterator[Opened]:
    """The kernel of `place`, with separate sockets for writing and readback."""
    with _netlink(place) as sock, _netlink(place) as reader:
        tools = {"nft": tool_version(place, ["nft", "--version"])}
        kernel = NftablesKernel(sock, place.run)
        with closing(KernelView(reader, place)) as view:
            yield Opened(kernel, view, tools, kernel.missing)


def leftovers(place: Place) -> str | None:
    """Tables of a proxy in this mode that already exist in `place`."""
    for family in ("ip", "ip6"):
        if place.run(["nft", "list", "table", family, "kube-proxy"], b"").returncode == 0:
            return f"table `{family} kube-proxy`"
    return None


def clean(place: Place) -> None:
    """Remove everything created by this mode."""
    for family in ("ip", "ip6"):
        place.run(["nft", "delete", "table", family, "kube-proxy"], b"")


def forget_clients(place: Place) -> None:
    """Clear the maps in which rules record clients (AFF)."""
    for family in ("ip", "ip6"):
        maps = (f"flush map {family} kube-proxy sticky-{kind}-clients\n" for kind in ("cluster", "local"))
        place.run(["nft", "-f", "-"], "".join(maps).encode())


def _netlink(place: Place) -> socket.socket:
    return place.make_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)


MODE = Mode(
    name="nftables",
    commands={"nft": "nftables"},
    memory=memory,
    real=real,
    tracer=tracer,
    leftovers=leftovers,
    clean=clean,
    forget_clients=forget_clients,
    notices=lambda place: Notifications.ELEMENTS,
    families=(4, 6),
    listings=(("nft", "list", "ruleset"),),
    flush="nft -t list table ip kube-proxy >&2 && nft list tables | grep ' kube-proxy$' | sed 's/^/delete /' | nft -f -"
    " && ! nft list tables | grep -q ' kube-proxy$'",
    damage="nft flush map ip kube-proxy nodeports",
)
