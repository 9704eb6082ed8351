"""Sends requests in transactions of limited size; the kernel processes one while the next is encoded."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class Pipeline:
    """`commit` sends one transaction and returns its bytes.

    Each may be twice as large as the one before, from `first` to `most` bytes: the kernel starts soon, with few in all.
    """

    def __init__(self, commit: Callable[[list[bytes]], int], first: int, most: int) -> None:
        self._commit, self._room, self._most = commit, min(first, most), most
        self._thread = ThreadPoolExecutor(1, "iptables-commit")
        self._before: Future[int] | None = None
        self._pending: list[bytes] = []
        self._size = self._sent = 0

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._thread.shutdown()

    def put(self, part: list[bytes]) -> None:
        """Add requests of one transaction; KernelError if an earlier one was refused."""
        more = sum(map(len, part))
        if self._pending and self._size + more > self._room:
            self._wait()
            self._before = self._thread.submit(self._commit, self._pending)
            self._pending, self._size = [], 0
            self._room = min(2 * self._room, self._most)
        self._pending += part
        self._size += more

    def end(self) -> int:
        """Send the rest; returns all bytes sent."""
        self._wait()
        if self._pending:
            self._sent += self._commit(self._pending)
        self._pending = []
        return self._sent

    def _wait(self) -> None:
        before, self._before = self._before, None
        self._sent += before.result() if before else 0
