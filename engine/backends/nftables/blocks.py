"""Ids for ports with session affinity, in blocks with the same timeout.

A block belongs to one timeout as long as one of its ids is in use.  When every block is in use, a new
timeout uses a block of the nearest timeout with free ids.
"""

from __future__ import annotations

from collections import deque

from engine.backends.nftables.numbers import BLOCK_BITS, STICKY_ID_BITS

_PORTS = 1 << BLOCK_BITS
BLOCKS = 1 << (STICKY_ID_BITS - 1 - BLOCK_BITS)


class Blocks:
    """The timeouts of blocks, and the free ids; block 0 is not used, so that no id is 0."""

    def __init__(self, blocks: int = BLOCKS) -> None:
        self.seconds: dict[int, int] = {}
        self._unused = deque(range(1, blocks))
        self._free: dict[int, deque[int]] = {}
        self._released: list[int] = []

    def take(self, seconds: int) -> tuple[int, int] | None:
        """An id, and the timeout of its block in seconds; None if no id is free."""
        if not self._free.get(seconds) and self._unused:
            block = self._unused.popleft()
            self.seconds[block] = seconds
            self._free.setdefault(seconds, deque()).extend(range(block * _PORTS, (block + 1) * _PORTS))
        nearest = min((abs(each - seconds), each) for each, free in self._free.items() if free) if self._any() else None
        return (self._free[nearest[1]].popleft(), nearest[1]) if nearest else None

    def release(self, number: int) -> None:
        """Free an id from the next `settle` on."""
        self._released.append(number)

    def settle(self) -> None:
        """Make released ids available, after all others of their timeout, and empty blocks to any timeout."""
        for number in self._released:
            self._free[self.seconds[number // _PORTS]].append(number)
        for block in sorted({number // _PORTS for number in self._released}):
            free = self._free[self.seconds[block]]
            ids = range(block * _PORTS, (block + 1) * _PORTS)
            if sum(number in ids for number in free) == _PORTS:
                left = deque(number for number in free if number not in ids)
                seconds = self.seconds.pop(block)
                self._unused.append(block)
                if left:
                    self._free[seconds] = left
                else:
                    del self._free[seconds]
        self._released.clear()

    def _any(self) -> bool:
        return any(self._free.values())
