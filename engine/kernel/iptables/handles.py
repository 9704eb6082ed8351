"""The kernel's handles of rules in edited chains.

A chain is listed once, when one of its rules is first deleted; from then on the kernel's echo reports the handle of
each inserted rule.  Handles are never reused while a table exists, so a cached one refers to its rule or to nothing,
whatever other programs did to the chain meanwhile.
"""

from __future__ import annotations

from engine.kernel.iptables.expressions import without_counters
from engine.kernel.netlink import Connection, attributes, nfnetlink, text
from engine.kernel.nftables.netlink import NFPROTO

_GETTABLE, _GETRULE = 0x0A01, 0x0A07
_TABLE_NAME, _TABLE_HANDLE = 1, 4
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS = 1, 2, 3, 4
_FAMILY_BYTES = 4

Place = tuple[int, str, str]
"""Family, table and chain."""


class Handles:
    """By chain and the rule's expressions, encoded as by `expressions`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[Place, dict[bytes, list[bytes]]] = {}
        self._tables: dict[tuple[int, str], bytes] = {}

    def take(self, place: Place, expressions: bytes) -> bytes | None:
        """Takes the handle of the first such rule, for the caller to delete; None if there is none."""
        if place not in self._known:
            self._known[place] = self._listed(place)
        found = self._known[place].get(expressions)
        if not found:
            return None
        handle = found.pop(0)
        if not found:
            del self._known[place][expressions]
        return handle

    def made(self, place: Place, expressions: bytes, answer: bytes, first: bool) -> None:
        """Records the kernel's echo of a rule that was inserted or appended to a chain."""
        if place in self._known:
            handles = self._known[place].setdefault(expressions, [])
            handles.insert(0 if first else len(handles), attributes(answer[_FAMILY_BYTES:])[_RULE_HANDLE])

    def verify(self, family: int, table: str) -> None:
        """Drop a table's handles if the table was recreated."""
        request = nfnetlink(_GETTABLE, 0, NFPROTO[family], text(_TABLE_NAME, table))
        handle = attributes(self._connection.ask(request)[_FAMILY_BYTES:]).get(_TABLE_HANDLE, b"")
        if self._tables.get((family, table)) != handle:
            for place in [place for place in self._known if place[:2] == (family, table)]:
                del self._known[place]
            self._tables[family, table] = handle

    def forget(self, place: Place) -> None:
        """Drop a chain's handles, as it is rewritten, or edited without echo."""
        self._known.pop(place, None)

    def clear(self) -> None:
        """Drop all handles, as none is certain."""
        self._known.clear()

    def held(self, place: Place) -> list[tuple[bytes, bytes]]:
        """The expressions and the handle of each rule of a chain, from a kernel listing."""
        return [(without_counters(rule[_RULE_EXPRESSIONS]), rule[_RULE_HANDLE]) for rule in self._rules(place)]

    def _listed(self, place: Place) -> dict[bytes, list[bytes]]:
        found: dict[bytes, list[bytes]] = {}
        for expressions, handle in self.held(place):
            found.setdefault(expressions, []).append(handle)
        return found

    def _rules(self, place: Place) -> list[dict[int, bytes]]:
        family, table, chain = place
        request = nfnetlink(_GETRULE, 0, NFPROTO[family], text(_RULE_TABLE, table) + text(_RULE_CHAIN, chain))
        return [attributes(body[_FAMILY_BYTES:]) for body in self._connection.dump(request)]
