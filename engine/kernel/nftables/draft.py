"""Fills a table without active hooks, in several transactions; and a thread that does so ahead of time.

    ahead: Part, Part ... ─► queue ─► thread: encode, transaction (the interpreter is free meanwhile)
    apply: the whole program ─► does it begin with the parts sent? ─► the rest

Sent parts are recognised by identity: a part's `SetChange` is one of the program's.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator

from engine.backends.nftables.program import NftablesProgram, Part, SetChange
from engine.kernel.nftables.netlink import TABLE, additions, messages

_log = logging.getLogger(__name__)

IP = {4: "ip", 6: "ip6"}


def dormant(script: str, family: int, table: str) -> str:
    """A script for another table, which it leaves dormant: nft wakes each table that is named without the flag."""
    begins = f"table {IP[family]} {table}"
    named = script.replace(f"table {IP[family]} {TABLE}", begins)
    return named.replace(f"{begins} {{\n", f"{begins} {{\n  flags dormant;\n")


class Draft:
    """One family's table until it is complete.  `script` and `commit` send; a transaction has at most `room` bytes."""

    def __init__(
        self,
        family: int,
        table: str,
        script: Callable[[str], None],
        commit: Callable[[list[bytes]], int],
        room: int,
    ) -> None:
        self.family, self.table = family, table
        self.bytes = 0
        self._script, self._commit, self._room = script, commit, room
        self._scripts: set[str] = set()
        self._changes: dict[int, SetChange] = {}
        self._added: dict[int, int] = {}

    def take(self, part: Part) -> None:
        """Send a part; KernelError if the kernel refuses it."""
        self._run(part.scripts)
        if part.change:
            self._send(self._rest(part.change, part.until))

    def begins(self, program: NftablesProgram) -> bool:
        """Whether everything taken so far belongs to this program."""
        ours = {id(change) for change in program.sets}
        return self._scripts.issubset(program.scripts) and self._changes.keys() <= ours

    def complete(self, program: NftablesProgram) -> None:
        """Send whatever is missing."""
        self._run(program.scripts)
        self._send(message for change in program.sets for message in self._rest(change, len(change.add)))

    def _run(self, scripts: tuple[str, ...]) -> None:
        for script in scripts:
            if script not in self._scripts:
                self._script(dormant(script, self.family, self.table))
                self._scripts.add(script)
                self.bytes += len(script)

    def _rest(self, change: SetChange, count: int) -> Iterator[bytes]:
        """Messages for a set's additions up to `count`, without those that were sent."""
        done = self._added.get(id(change), 0)
        self._changes[id(change)], self._added[id(change)] = change, count
        if not done and count == len(change.add):
            yield from messages(self.family, change, self.table)
        else:
            yield from additions(self.family, change, self.table, done, count)

    def _send(self, requests: Iterator[bytes]) -> None:
        for batch in batches(requests, self._room):
            self.bytes += self._commit(batch)


def batches(requests: Iterator[bytes], room: int) -> Iterator[list[bytes]]:
    """Transactions not larger than the buffer; deletions and additions of a set may share one."""
    pending: list[bytes] = []
    size = 0
    for message in requests:
        if pending and size + len(message) > room:
            yield pending
            pending, size = [], 0
        pending.append(message)
        size += len(message)
    if pending:
        yield pending


class Ahead:
    """Fills a draft in its own thread; one other thread adds parts and waits for the end."""

    def __init__(self, begin: Callable[[], Draft]) -> None:
        self._begin = begin
        self._draft: Draft | None = None
        self._parts: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._started = True
        try:
            self._thread.start()
        except RuntimeError as error:  # out of threads: the whole program is sent at once
            self._started = False
            _log.warning("Failed to write ahead: %s", error)

    def give(self, part: Part) -> None:
        """Queue a part to be sent."""
        self._parts.put(part)

    def end(self) -> Draft | None:
        """Wait until all parts are sent; None if one was refused."""
        self._parts.put(None)
        if self._started:
            self._thread.join()
        return self._draft

    def _run(self) -> None:
        try:
            draft = self._begin()
            while part := self._parts.get():
                draft.take(part)
            self._draft = draft
        except Exception as error:  # the whole program is tried once more, and its failure reported
            _log.warning("Failed to write ahead: %s: %s", type(error).__name__, error)
