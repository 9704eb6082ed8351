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
from engine.kernel.nftables.netlink import BEGIN, END, messages

_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_BUFFER_BYTES = 512 << 20
_NLMSG_ERROR = 2

Run = Callable[[list[str], bytes], "subprocess.CompletedProcess[bytes]"]


class NftablesKernel:
    """nf_tables through `sock` (AF_NETLINK, NETLINK_NETFILTER) and `run` (command, stdin) -> result."""

    def __init__(self, sock: socket.socket, run: Run) -> None:
        self._sock = sock
        self._run = run
        self._limit = _widen(sock)

    def apply(self, program: NftablesProgram) -> Applied:
        """One transaction where the socket's buffer allows it, else several in the program's order."""
        sent = 0
        for script in program.scripts:
            self._script(script)
            sent += len(script)
        for batch in self._batches(program):
            self._commit(batch)
            sent += len(batch)
        return Applied(sent)

    def _script(self, script: str) -> None:
        result = self._run(["nft", "-f", "-"], script.encode())
        if result.returncode:
            raise KernelError(f"nft refused the rules: {result.stderr.decode(errors='replace').strip()}")

    def _batches(self, program: NftablesProgram) -> Iterator[bytes]:
        """Transactions no larger than the buffer; a set's deletions and additions may share one."""
        pending: list[bytes] = []
        size = 0
        for change in program.sets:
            for message in messages(program.family, change):
                if pending and size + len(message) > self._limit:
                    yield b"".join([BEGIN, *pending, END])
                    pending, size = [], 0
                pending.append(message)
                size += len(message)
        if pending:
            yield b"".join([BEGIN, *pending, END])

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
