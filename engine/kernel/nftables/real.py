"""The real kernel's nf_tables: rules by `nft -f`, elements by netlink, in the namespace it is given.

`open_socket` and `run` decide the network namespace; this module never looks around by itself.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator

from engine.backends.nftables.program import NftablesProgram
from engine.kernel.base import Applied, KernelError
from engine.kernel.nftables.netlink import BEGIN, END, GET_GENERATION, TABLE, get_rules, get_table, messages

_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_BUFFER_BYTES = 512 << 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADERS = 20
"""nlmsghdr and nfgenmsg, which tells the current generation."""
_IP = {4: "ip", 6: "ip6"}

STAND_IN = "kube-proxy-stand-in"
"""The table that takes the place of the other one while that is replaced."""

Run = Callable[[list[str], bytes], "subprocess.CompletedProcess[bytes]"]


class NftablesKernel:
    """nf_tables through `sock` (AF_NETLINK, NETLINK_NETFILTER) and `run` (command, stdin) -> result."""

    def __init__(self, sock: socket.socket, run: Run) -> None:
        self._sock = sock
        self._run = run
        self._limit = _widen(sock)
        self._made: dict[int, tuple[bytes | None, int]] = {}
        self._seen: dict[int, tuple[bytes | None, bool]] = {}

    def apply(self, program: NftablesProgram) -> Applied:
        """One transaction where the socket's buffer allows it, else several in the program's order.

        A table that is there already, an earlier run's or one in doubt, is replaced without a moment in
        which nothing is programmed: a table of another name holds the same meanwhile.
        """
        covered = program.start and self._table(program.family) is not None
        if covered:
            self._stand_in(program)
        sent = self._load(program, TABLE)
        if covered:
            self._script(f"delete table {_IP[program.family]} {STAND_IN}\n")
        if program.scripts:
            self._made[program.family] = self._shape(program.family)
        return Applied(sent)

    def intact(self, family: int) -> bool:
        """Whether a family's table and rules are as this made them; elements are not looked at.

        Cheap: while no transaction has been made since the last call, that alone is asked for.
        """
        generation = self._ask(GET_GENERATION)
        seen = self._seen.get(family)
        if seen is None or generation is None or seen[0] != generation:  # None: the kernel did not say
            seen = self._seen[family] = generation, self._shape(family) == self._made.get(family)
        return seen[1]

    def _stand_in(self, program: NftablesProgram) -> None:
        """A second table with the whole state, unless a run that was cut short left a complete one."""
        ip = _IP[program.family]
        if self._run(["nft", "list", "chain", ip, STAND_IN, "complete"], b"").returncode == 0:
            return
        self._load(program, STAND_IN)
        self._script(f"add chain {ip} {STAND_IN} complete\n")

    def _load(self, program: NftablesProgram, table: str) -> int:
        sent = 0
        for script in program.scripts:
            self._script(script.replace(f"table {_IP[program.family]} {TABLE}", f"table {_IP[program.family]} {table}"))
            sent += len(script)
        for batch in self._batches(program, table):
            self._commit(batch)
            sent += len(batch)
        return sent

    def _script(self, script: str) -> None:
        result = self._run(["nft", "-f", "-"], script.encode())
        if result.returncode:
            raise KernelError(f"nft refused the rules: {result.stderr.decode(errors='replace').strip()}")

    def _batches(self, program: NftablesProgram, table: str) -> Iterator[bytes]:
        """Transactions no larger than the buffer; a set's deletions and additions may share one."""
        pending: list[bytes] = []
        size = 0
        for change in program.sets:
            for message in messages(program.family, change, table):
                if pending and size + len(message) > self._limit:
                    yield b"".join([BEGIN, *pending, END])
                    pending, size = [], 0
                pending.append(message)
                size += len(message)
        if pending:
            yield b"".join([BEGIN, *pending, END])

    def _table(self, family: int) -> bytes | None:
        """The table as the kernel describes it: handle, flags, how many chains and sets; None without it."""
        return self._ask(get_table(family))

    def _shape(self, family: int) -> tuple[bytes | None, int]:
        """The table, and how many rules are in it."""
        return self._table(family), self._count(get_rules(family))

    def _ask(self, request: bytes) -> bytes | None:
        """What a request's only answer holds after its header; None when it is refused."""
        self._sock.send(request)
        data = self._sock.recv(1 << 16)
        length, kind = struct.unpack_from("=IH", data)
        return None if kind == _NLMSG_ERROR else data[_HEADERS:length]

    def _count(self, request: bytes) -> int:
        """How many objects a dump lists."""
        self._sock.send(request)
        count = 0
        while True:
            data = self._sock.recv(1 << 18)
            offset = 0
            while offset + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, offset)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    return count
                count += 1
                offset += (length + 3) & ~3

    def _commit(self, batch: bytes) -> None:
        try:
            self._sock.send(batch)
        except OSError as error:
            raise KernelError(f"netlink refused {len(batch)} bytes: {os.strerror(error.errno)}") from error
        code = _acknowledged(self._sock)
        if code:
            raise KernelError(f"nf_tables refused the transaction: {os.strerror(code)} ({errno.errorcode[code]})")


def _widen(sock: socket.socket) -> int:
    """Make the send buffer as large as allowed; the bytes that one transaction may have."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, _BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    # The kernel doubles what is asked for its own overhead; a message may have about half of it.
    return granted // 2 - 70_000


def _acknowledged(sock: socket.socket) -> int:
    """Read until the batch's acknowledgement; the first error code, 0 when all is well."""
    while True:
        data = sock.recv(1 << 16)
        offset = 0
        while offset + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if kind == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", data, offset + 16)[0]
                return code
            offset += (length + 3) & ~3
