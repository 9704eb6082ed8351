"""The real kernel's nf_tables: rules by `nft -f`, elements by netlink.

The given socket and `run` determine the network namespace.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator

from engine.backends.nftables.program import NftablesProgram
from engine.kernel.base import Applied, Intact, KernelError
from engine.kernel.netlink import Connection, Kind, NetlinkError
from engine.kernel.nftables import probe
from engine.kernel.nftables.netlink import (
    GET_GENERATION,
    SUBSYSTEM,
    TABLE,
    get_rules,
    get_table,
    messages,
    refused,
)
from engine.kernel.tools import Run, answered

_BUFFER_BYTES = 512 << 20
_FAMILY_BYTES = 4
"""Size of struct nfgenmsg, which contains the current generation."""
_IP = {4: "ip", 6: "ip6"}

SHADOW = "kube-proxy-shadow"
"""The table that replaces the main one while that is written."""


class NftablesKernel:
    """nf_tables through `sock` (AF_NETLINK, NETLINK_NETFILTER) and `run` (command, stdin) -> result."""

    def __init__(self, sock: socket.socket, run: Run) -> None:
        self._connection = Connection(sock, _BUFFER_BYTES)
        self._run = run
        self._made: dict[int, tuple[bytes | None, int]] = {}
        self._seen: dict[int, tuple[bytes | None, bool]] = {}

    def apply(self, program: NftablesProgram) -> Applied:
        """Apply the program in one transaction if the socket's buffer allows it, else in several, in order.

        An existing table, of an earlier run or in an unknown state, is replaced without a gap: a table with another
        name holds the same state meanwhile.
        """
        covered = program.start and self._table(program.family) is not None
        if covered:
            self._shadow(program)
        sent = self._load(program, TABLE)
        if covered:
            self._script(f"delete table {_IP[program.family]} {SHADOW}\n")
        if program.scripts:
            self._made[program.family] = self._shape(program.family)
        return Applied(sent)

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

    def _shadow(self, program: NftablesProgram) -> None:
        """Create the shadow table with the whole state, unless an interrupted run left a complete one."""
        ip = _IP[program.family]
        if answered(self._run(["nft", "list", "chain", ip, SHADOW, "complete"], b"")).returncode == 0:
            return
        self._load(program, SHADOW)
        self._script(f"add chain {ip} {SHADOW} complete\n")

    def _load(self, program: NftablesProgram, table: str) -> int:
        sent = 0
        for script in program.scripts:
            self._script(script.replace(f"table {_IP[program.family]} {TABLE}", f"table {_IP[program.family]} {table}"))
            sent += len(script)
        for batch in self._batches(program, table):
            sent += self._commit(batch)
        return sent

    def _script(self, script: str) -> None:
        result = self._run(["nft", "-f", "-"], script.encode())
        if result.returncode:
            raise KernelError(f"nft rejected the rules: {result.stderr.decode(errors='replace').strip()}")

    def _batches(self, program: NftablesProgram, table: str) -> Iterator[list[bytes]]:
        """Transactions not larger than the buffer; deletions and additions of a set may share one."""
        pending: list[bytes] = []
        size = 0
        for change in program.sets:
            for message in messages(program.family, change, table):
                if pending and size + len(message) > self._connection.room:
                    yield pending
                    pending, size = [], 0
                pending.append(message)
                size += len(message)
        if pending:
            yield pending

    def _table(self, family: int) -> bytes | None:
        """The kernel's description of a table: handle, flags, number of chains and sets; None if it does not exist."""
        try:
            return self._connection.ask(get_table(family))[_FAMILY_BYTES:]
        except NetlinkError as error:
            if error.kind is Kind.NOT_THERE:
                return None
            raise

    def _shape(self, family: int) -> tuple[bytes | None, int]:
        """The table's description and its number of rules."""
        table = self._table(family)
        return table, len(self._connection.dump(get_rules(family))) if table else 0

    def _generation(self) -> bytes | None:
        """The ruleset generation; None if the kernel does not support the query."""
        try:
            return self._connection.ask(GET_GENERATION)[_FAMILY_BYTES:]
        except NetlinkError as error:
            if error.kind is Kind.TIMED_OUT:
                raise
            return None

    def _commit(self, batch: list[bytes]) -> int:
        try:
            return self._connection.transaction(batch, SUBSYSTEM)
        except NetlinkError as error:
            raise error.about(f"nf_tables rejected {refused(error.first)}") from None
