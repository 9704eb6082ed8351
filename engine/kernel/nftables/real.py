"""The real kernel's nf_tables: rules by `nft -f`, elements by netlink.

The given socket and `run` determine the network namespace.  A full program fills a table without active hooks, which
then replaces what is there at once: packets see either the old state or the new one.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Collection, Iterator
from functools import partial

from engine.backends.nftables.program import NftablesProgram, Part
from engine.kernel.interface import Applied, Intact, KernelError
from engine.kernel.netlink import Connection, ErrorKind, NetlinkError
from engine.kernel.nftables import probe
from engine.kernel.nftables.draft import Ahead, Draft, batches
from engine.kernel.nftables.netlink import (
    GET_GENERATION,
    SUBSYSTEM,
    TABLE,
    add_chain,
    delete_table,
    get_chain,
    get_rules,
    get_table,
    is_dormant,
    messages,
    refused,
    wake,
)
from engine.kernel.tools import Run

_BUFFER_BYTES = 512 << 20
_DRAFT_BYTES = 1 << 19
"""Maximum size; one larger transaction is slower, as a set's hash table only grows between transactions."""
_FAMILY_BYTES = 4
"""Size of struct nfgenmsg, which contains the current generation."""

SHADOW = "kube-proxy-shadow"
"""The table that replaces the main one while that is written."""
_COMPLETE = "complete"
"""The chain that only a complete shadow table has."""

_log = logging.getLogger(__name__)


class NftablesKernel:
    """nf_tables through `sock` (AF_NETLINK, NETLINK_NETFILTER) and `run` (command, stdin) -> result."""

    def __init__(self, sock: socket.socket, run: Run) -> None:
        self._connection = Connection(sock, _BUFFER_BYTES)
        self._run = run
        self._made: dict[int, tuple[bytes | None, int]] = {}
        self._seen: dict[int, tuple[bytes | None, bool]] = {}
        self._ahead: dict[int, tuple[str, Ahead]] = {}
        self._using = threading.RLock()
        """Held for each request: threads write ahead.  nft also fails if another transaction comes between."""

    def apply(self, program: NftablesProgram) -> Applied:
        """Apply a change in one transaction if the socket's buffer allows it, else in several, in order.

        A full program replaces the table without a gap: a table with another name holds the same state meanwhile.
        """
        draft = self._end(program.family)
        sent = self._replace(program, draft) if program.start else self._change(program)
        if program.scripts:
            self._made[program.family] = self._shape(program.family)
        return Applied(sent)

    def ahead(self, family: int, part: Part) -> None:
        """Send a part of the next full program while the rest is computed, in a thread; never fails.

        The first part has the script that creates the table; the same script again changes nothing.
        """
        begun = self._ahead.get(family)
        if begun and part.scripts and part.scripts[0] != begun[0]:
            self.abandon((family,))
            begun = None
        if begun is None:
            begun = self._ahead[family] = part.scripts[0], Ahead(partial(self._draft, family))
        begun[1].give(part)

    def abandon(self, families: Collection[int] = (4, 6)) -> None:
        """Remove the parts sent ahead of programs that are not applied."""
        for family in families:
            if draft := self._end(family):
                self._remove(draft)

    def missing(self, families: Collection[int]) -> str | None:
        """Features that programs of these families need and nft or this kernel lacks; None if there are none."""
        return probe.missing(self._connection, self._run, families)

    def intact(self, family: int) -> Intact:
        """Whether a family's table and rules are unchanged; elements are not checked.

        If there was no transaction since the last call, this takes one message.
        """
        try:
            generation = self._generation()
            seen = self._seen.get(family)
            if seen is None or generation is None or seen[0] != generation:  # None: not supported by the kernel
                seen = self._seen[family] = generation, self._shape(family) == self._made.get(family)
        except NetlinkError:
            return Intact.UNKNOWN
        return Intact.YES if seen[1] else Intact.NO

    def _change(self, program: NftablesProgram) -> int:
        sent = sum(map(len, program.scripts))
        for script in program.scripts:
            self._script(script)
        for batch in self._batches(program):
            sent += self._commit(batch)
        return sent

    def _batches(self, program: NftablesProgram) -> Iterator[list[bytes]]:
        requests = (message for change in program.sets for message in messages(program.family, change))
        return batches(requests, self._connection.room)

    def _replace(self, program: NftablesProgram, draft: Draft | None) -> int:
        if draft and draft.begins(program):
            try:
                return self._finish(draft, program)
            except KernelError as error:
                _log.warning("Failed to complete the parts written ahead, writing the whole program again: %s", error)
        return self._finish(self._draft(program.family), program)

    def _finish(self, draft: Draft, program: NftablesProgram) -> int:
        """Complete the table and make it live; after a failure nothing of it is left."""
        try:
            draft.complete(program)
            if draft.table == SHADOW:
                self._commit([wake(draft.family, SHADOW), add_chain(draft.family, SHADOW, _COMPLETE)])
                draft = self._draft(program.family)
                draft.complete(program)
            gone = [delete_table(program.family, SHADOW)] if self._table(program.family, SHADOW) else []
            self._commit([wake(program.family, TABLE), *gone])
        except KernelError:
            self._remove(draft)
            raise
        return draft.bytes

    def _draft(self, family: int) -> Draft:
        """The table to be filled: the shadow of a live one, unless an interrupted run left a complete shadow."""
        live = self._table(family)
        free = live is None or is_dormant(live) or self._found(get_chain(family, SHADOW, _COMPLETE)) is not None
        room = min(self._connection.room, _DRAFT_BYTES)
        return Draft(family, TABLE if free else SHADOW, self._script, self._commit, room)

    def _end(self, family: int) -> Draft | None:
        begun = self._ahead.pop(family, None)
        return begun[1].end() if begun else None

    def _remove(self, draft: Draft) -> None:
        with contextlib.suppress(KernelError):  # the next full program begins by deleting it
            self._commit([delete_table(draft.family, draft.table)])

    def _script(self, script: str) -> None:
        with self._using:
            result = self._run(["nft", "-f", "-"], script.encode())
        if result.returncode:
            raise KernelError(f"nft rejected the rules: {result.stderr.decode(errors='replace').strip()}")

    def _table(self, family: int, table: str = TABLE) -> bytes | None:
        """The kernel's description of a table: handle, flags, number of chains and sets; None if it does not exist."""
        return self._found(get_table(family, table))

    def _found(self, request: bytes) -> bytes | None:
        """The reply to a request for an object; None if it does not exist."""
        try:
            with self._using:
                return self._connection.ask(request)[_FAMILY_BYTES:]
        except NetlinkError as error:
            if error.kind is ErrorKind.NOT_THERE:
                return None
            raise

    def _shape(self, family: int) -> tuple[bytes | None, int]:
        """The table's description and its number of rules."""
        with self._using:
            table = self._table(family)
            return table, len(self._connection.dump(get_rules(family))) if table else 0

    def _generation(self) -> bytes | None:
        """The ruleset generation; None if the kernel does not support the query."""
        try:
            with self._using:
                return self._connection.ask(GET_GENERATION)[_FAMILY_BYTES:]
        except NetlinkError as error:
            if error.kind is ErrorKind.TIMED_OUT:
                raise
            return None

    def _commit(self, batch: list[bytes]) -> int:
        try:
            with self._using:
                return self._connection.transaction(batch, SUBSYSTEM)
        except NetlinkError as error:
            raise error.about(f"nf_tables rejected {refused(error.first)}") from None
