"""One netlink socket for requests: numbered, with complete replies, within a deadline.

Thousands of requests are sent at once.  The kernel replies to a request without the acknowledgement flag
only if it fails, so the flag on the last one suffices: reading up to its reply yields every error.
Replies to earlier requests that were abandoned are recognized by their numbers and skipped.
"""

from __future__ import annotations

import dataclasses
import errno
import socket
import threading
from collections.abc import Callable, Iterator, Sequence

from engine.kernel.netlink.errors import ErrorKind, NetlinkError, Refusal
from engine.kernel.netlink.waiting import ANSWER_SECONDS, CAP_ACK, EXT_ACK, discard, prefer, receive, widen
from engine.kernel.netlink.wire import (
    ACK,
    DUMP,
    DUMP_INTERRUPTED,
    ERROR,
    SEQUENCE_AT,
    error_code,
    flagged,
    nfnetlink,
    page,
    refusal,
    spans,
)

_BUFFER_BYTES = 1 << 22
_PIPELINE_BYTES = 1 << 18
_ANSWER_BYTES = 1536
"""Space that one error takes in the receive buffer, including the kernel's overhead."""
_DUMPS_AT_MOST = 10
_LAST_SEQUENCE = 0xFFFFFFFF
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11

Heard = Callable[[bytes, bytes], None]
"""Called with a request and the body of its echo from the kernel."""


class Connection:
    """Requests over one AF_NETLINK socket.  Raises only NetlinkError.

    Several threads may call `ask`, `dump` and `transaction`.
    """

    def __init__(
        self, sock: socket.socket, send_bytes: int = _BUFFER_BYTES, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._sock = sock
        self._seconds = answer_seconds
        self._next = 1
        self._using = threading.RLock()
        self._unfinished: Dump | None = None
        try:
            prefer(sock, CAP_ACK, EXT_ACK)  # errors without the request, with the kernel's message
            widen(sock, send_bytes, _BUFFER_BYTES)
            discard(sock)
            sends, receives = (
                sock.getsockopt(socket.SOL_SOCKET, size) for size in (socket.SO_SNDBUF, socket.SO_RCVBUF)
            )
        except OSError as error:
            raise NetlinkError([Refusal(-1, error.errno or 0)], "a netlink socket is unusable") from error
        # The kernel doubles the requested size for its overhead; a send may use about half of it.
        self.room = sends // 2 - 70_000
        """Maximum size of a send, and so of a transaction, in bytes."""
        self._at_once = max(1, receives // _ANSWER_BYTES)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def ask(self, request: bytes) -> bytes:
        """The body of the reply to a request for one object; empty if there is only an acknowledgement."""
        with self._using:
            return self._asked(request)

    def _asked(self, request: bytes) -> bytes:
        first = self._send([flagged(request, ACK)])
        found = b""
        while True:
            data = self._receive()
            for span in spans(data):
                kind, _, sequence, start, end = span
                if sequence == first and kind != ERROR:
                    found = found or data[start:end]
                elif sequence == first:
                    if error_code(data, start, end):
                        raise NetlinkError([refusal(data, span, 0, request)])
                    return found

    def dump(self, request: bytes) -> list[bytes]:
        """The bodies of all replies; the dump is repeated if the kernel reports that it was interrupted."""
        for _ in range(_DUMPS_AT_MOST):
            dump = Dump(self, request)
            with self._using:
                bodies = [data[start:end] for data, found in dump for start, end in found]
            if dump.whole:
                return bodies
        raise NetlinkError([Refusal(0, errno.EAGAIN, request, "it kept changing during the dump")])

    def perform(self, requests: Sequence[bytes]) -> list[Refusal]:
        """Perform independent requests in order; returns those that failed."""
        return [refused for part in self._parts(requests) for refused in part]

    def require(self, requests: Sequence[bytes]) -> int:
        """Perform requests in order and return bytes sent; NetlinkError after the send in which one fails."""
        for refused in self._parts(requests):
            if refused:
                raise NetlinkError(refused)
        return sum(map(len, requests))

    def transaction(self, requests: Sequence[bytes], subsystem: int, heard: Heard | None = None) -> int:
        """Perform requests as one transaction of a netfilter subsystem and return bytes sent.

        `heard` is called with the kernel's echo of each request that has the ECHO flag.

        The last request inside carries the acknowledgement flag, as not every kernel acknowledges the end of a batch.
        An error of the whole transaction (no memory, or a conflicting transaction) has index -1.  If the first error is
        NO_ROOM or TIMED_OUT, it is unknown whether the transaction was committed.
        """
        if not requests:
            return 0
        resource = socket.htons(subsystem)
        framed = [nfnetlink(_BATCH_BEGIN, 0, 0, b"", resource), *requests, nfnetlink(_BATCH_END, 0, 0, b"", resource)]
        framed[-2] = flagged(framed[-2], ACK)
        with self._using:
            refused = self._refusals(self._send(framed) + 1, requests, heard)
        if refused:
            raise NetlinkError(refused)
        return sum(map(len, framed))

    def _parts(self, requests: Sequence[bytes]) -> Iterator[list[Refusal]]:
        """The errors of each send, whose size is limited so that even errors for all requests fit into the buffer."""
        most = min(_PIPELINE_BYTES, self.room)
        start = 0
        while start < len(requests):
            end, size = start, 0
            while end < len(requests) and end - start < self._at_once:
                size += len(requests[end])
                if size > most and end > start:
                    break
                end += 1
            part = list(requests[start:end])
            part[-1] = flagged(part[-1], ACK)
            found = self._refusals(self._send(part), part)
            yield [r if r.index < 0 else dataclasses.replace(r, index=start + r.index) for r in found]
            start = end

    def _send(self, requests: Sequence[bytes]) -> int:
        """Number and send the requests; returns the first number."""
        self._finish_dump()
        first = self._next if self._next + len(requests) <= _LAST_SEQUENCE else 1
        self._next = first + len(requests)
        batch = bytearray().join(requests)
        with memoryview(batch).cast("I") as words:
            at = SEQUENCE_AT // 4
            for sequence, request in enumerate(requests, first):
                words[at] = sequence
                at += len(request) // 4
        try:
            self._sock.send(batch)
        except OSError as error:
            raise NetlinkError([Refusal(-1, error.errno or 0, text=f"{len(batch)} bytes were not sent")]) from error
        return first

    def _refusals(self, first: int, requests: Sequence[bytes], heard: Heard | None = None) -> list[Refusal]:
        """Read up to the reply to the last request, or to the whole transaction, whose number is `first` - 1.

        After a buffer overrun the remaining content is read, and an error of kind NO_ROOM is appended.
        """
        found: list[Refusal] = []
        overrun = False
        while True:
            try:
                data = self._receive(0 if overrun else self._seconds)
            except NetlinkError as error:
                if error.kind is ErrorKind.NO_ROOM:
                    overrun = True
                    continue
                return [*found, _LOST] if overrun else [*found, *error.refusals]
            for span in spans(data):
                kind, _, sequence, start, end = span
                index = sequence - first
                if heard and kind != ERROR and 0 <= index < len(requests):
                    heard(requests[index], data[start:end])
                if kind != ERROR or not -1 <= index < len(requests):
                    continue
                if error_code(data, start, end):
                    found.append(refusal(data, span, index, requests[index] if index >= 0 else b""))
                if index in (len(requests) - 1, -1):
                    return found

    def _receive(self, seconds: float | None = None) -> bytes:
        try:
            return receive(self._sock, self._seconds if seconds is None else seconds)
        except OSError as error:
            words = str(error) if isinstance(error, TimeoutError) else ""
            raise NetlinkError([Refusal(-1, error.errno or 0, text=words)]) from None

    def _finish_dump(self) -> None:
        """Read the rest of an abandoned dump: until then the kernel does not start another one."""
        if self._unfinished:
            for _ in self._unfinished.rest():
                pass


_LOST = Refusal(-1, errno.ENOBUFS, text="the replies exceeded the receive buffer")


class Dump:
    """Iterates over one dump: (data, [(start, end) of each body in it]) per datagram.

    `whole` is set afterwards if the kernel reports that the dump is consistent.
    """

    def __init__(self, connection: Connection, request: bytes) -> None:
        self._connection, self._request = connection, request
        self.whole = False

    def __iter__(self) -> Iterator[tuple[bytes, list[tuple[int, int]]]]:
        self._sequence = self._connection._send([flagged(self._request, DUMP)])
        self._connection._unfinished = self
        yield from self.rest()

    def rest(self) -> Iterator[tuple[bytes, list[tuple[int, int]]]]:
        """The rest of the dump."""
        interrupted = 0
        last = None
        while last is None:
            data = self._receive()
            bodies, flags, last = page(data, self._sequence)
            interrupted |= flags & DUMP_INTERRUPTED
            if last:
                self._connection._unfinished = None
                code = error_code(data, *last[3:])
                if code and code != errno.EINTR:
                    raise NetlinkError([refusal(data, last, 0, self._request)])
                interrupted |= code
            yield data, bodies
        self.whole = not interrupted

    def _receive(self) -> bytes:
        try:
            return self._connection._receive()
        except NetlinkError:
            self._connection._unfinished = None
            raise
