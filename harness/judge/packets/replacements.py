"""Elements of nf_tables sets that were deleted in one transaction and added again in a later one.  Pure.

In between they were missing, however briefly; an element deleted and added in the same transaction never is.
"""

from __future__ import annotations

from engine.kernel.netlink.wire import attributes
from harness.judge.readback.elements import Elements, collect

ADDED, DELETED = 12, 14
"""NFT_MSG_NEWSETELEM and NFT_MSG_DELSETELEM."""
_FAMILY_BYTES, _TABLE, _SET = 4, 1, 2

Element = tuple[bytes, bytes, bytes]
"""Family and table, set, key."""


class Replacements:
    """One watch over messages and ends of transactions; `apart` is the longest time in seconds by set."""

    def __init__(self) -> None:
        self.apart: dict[str, float] = {}
        self._gone: dict[Element, float] = {}
        self._open: dict[Element, int] = {}

    def hear(self, kind: int, body: bytes) -> None:
        """Record one message's elements; `kind` is ADDED or DELETED."""
        head = attributes(body[_FAMILY_BYTES:])
        table, name = body[:1] + head[_TABLE], head[_SET].rstrip(b"\0")
        elements: Elements = {}
        collect(body, _FAMILY_BYTES, len(body), elements)
        self._open |= {(table, name, key): kind for key in elements}

    def end(self, at: float) -> None:
        """Record that the transaction took effect."""
        for element, kind in self._open.items():
            if kind == DELETED:
                self._gone[element] = at
            elif element in self._gone:
                name = element[1].decode()
                self.apart[name] = max(self.apart.get(name, 0.0), at - self._gone.pop(element))
        self._open = {}
