"""The nft variant by netlink: writes, edits, deletes and lists chains.

One sync is one transaction if it fits the socket's buffer.  Otherwise flushing and filling a chain still share one, and
targets of jumps are sent first, so that reachable chains are always complete.

Adding a rule makes the kernel validate everything reachable from a table's hooks, once per transaction: at 10,000
Services that is nearly all of a change's time.  Deleting rules does not, so a chain that only loses rules is not
rewritten.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from engine.backends.iptables.program import Edit, Rules, Table
from engine.kernel.interface import KernelError
from engine.kernel.iptables.expressions import encode, expressions
from engine.kernel.iptables.handles import Handles, Place
from engine.kernel.iptables.pipeline import Pipeline
from engine.kernel.netlink import (
    APPEND,
    CREATE,
    ECHO,
    Connection,
    ErrorKind,
    NetlinkError,
    Refusal,
    attribute,
    attributes,
    flags_of,
    nfnetlink,
    text,
)
from engine.kernel.nftables.netlink import NFPROTO, SUBSYSTEM

_NEWTABLE, _NEWCHAIN, _GETCHAIN, _DELCHAIN, _NEWRULE, _DELRULE = 0x0A00, 0x0A03, 0x0A04, 0x0A05, 0x0A06, 0x0A08
_NESTED = 0x8000
_CHAIN_TABLE, _CHAIN_NAME = 1, 3
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS = 1, 2, 3, 4
_NETLINK_HEADER, _HEADERS, _FAMILY_BYTES = 16, 20, 4
_FIRST_BYTES, _TRANSACTION_BYTES = 1 << 20, 1 << 24
_ECHOES_AT_MOST = 100
"""Fits into the smallest receive buffer."""
_FEW_CHAINS = 20
_FAMILY_OF = {number: family for family, number in NFPROTO.items()}


class NoSuchRule(KernelError):
    """A rule to be deleted is missing."""


class ChainWriter:
    """Chains of iptables' tables in nf_tables, over a socket (AF_NETLINK, NETLINK_NETFILTER).

    `left(table, chains)` is called with those that were flushed but not deleted, as other programs' rules jump to them.
    """

    def __init__(self, sock: socket.socket, left: Callable[[str, list[str]], None]) -> None:
        self._left = left
        self._connection = Connection(sock, 2 * _TRANSACTION_BYTES)
        self._handles = Handles(self._connection)
        self._limit = min(_TRANSACTION_BYTES, self._connection.room)

    def close(self) -> None:
        """Close the socket."""
        self._connection.close()

    def chains(self, family: int) -> dict[str, list[str]]:
        """The names of all chains, by table."""
        try:
            bodies = self._connection.dump(nfnetlink(_GETCHAIN, 0, NFPROTO[family], b""))
        except NetlinkError as error:
            raise error.about("chains could not be listed") from None
        found: dict[str, list[str]] = {}
        for body in bodies:
            fields = attributes(body[_FAMILY_BYTES:])
            table, name = (fields[kind].rstrip(b"\0").decode() for kind in (_CHAIN_TABLE, _CHAIN_NAME))
            found.setdefault(table, []).append(name)
        return found

    def has(self, family: int, table: str, name: str) -> bool:
        """Whether a chain exists."""
        try:
            self._connection.ask(nfnetlink(_GETCHAIN, 0, NFPROTO[family], _of_chain(table, name)))
        except NetlinkError as error:
            if error.kind is ErrorKind.NOT_THERE:
                return False
            raise error.about(f"chain {name} of {table} could not be read") from None
        return True

    def lacks(self, family: int, table: str, chain: str, rules: Iterable[str]) -> tuple[set[str], bool]:
        """The given rules that are not in the chain, and whether it has others."""
        held = {found for found, _ in self._handles.held((family, table, chain))}
        known = {rule: expressions(rule, family) for rule in rules}
        return {rule for rule, body in known.items() if body not in held}, not held <= {*known.values()}

    def write(self, family: int, tables: Sequence[Table]) -> int:
        """Write chains, each after those that it jumps to; then edits; deletions last.  Returns the bytes sent.

        KernelError if something is refused, including NoSuchRule; then only chains may have been written.
        """
        few = sum(len(table.chains) for table in tables) <= _FEW_CHAINS
        echo = sum(len(table.edits) for table in tables) <= _ECHOES_AT_MOST
        parts = chain(
            (self._chain(family, t.name, name, rules, few) for t in tables for name, rules in t.chains.items()),
            (self._edit(family, t.name, edit, echo) for t in self._verified(family, tables) for edit in t.edits),
            ([nfnetlink(_DELRULE, 0, NFPROTO[family], _of_rules(t.name, name))] for t in tables for name in t.deleted),
            ([nfnetlink(_DELCHAIN, 0, NFPROTO[family], _of_chain(t.name, name))] for t in tables for name in t.deleted),
        )
        try:
            with Pipeline(self._commit, self._limit, self._limit) as pipeline:
                for part in parts:
                    pipeline.put(part)
                return pipeline.end()
        except KernelError:
            self._handles.clear()
            raise

    def _verified(self, family: int, tables: Sequence[Table]) -> Iterator[Table]:
        for table in tables:
            if table.edits:
                self._handles.verify(family, table.name)
            yield table

    def pipeline(self) -> Pipeline:
        """For transactions of `new_table` and `chain`, which are small at first."""
        return Pipeline(self._commit, _FIRST_BYTES, self._limit)

    def new_table(self, family: int, table: str) -> bytes:
        """Create a table, if it is missing."""
        return nfnetlink(_NEWTABLE, CREATE, NFPROTO[family], text(1, table))

    def chain(self, family: int, table: str, name: str, rules: Rules, new: bool) -> list[bytes]:
        """Create one chain, flush it unless it is new, and fill it."""
        self._handles.forget((family, table, name))
        owner, number = _of_rules(table, name), NFPROTO[family]
        return [
            nfnetlink(_NEWCHAIN, CREATE, number, _of_chain(table, name)),
            *([] if new else [nfnetlink(_DELRULE, 0, number, owner)]),
            *[nfnetlink(_NEWRULE, CREATE | APPEND, number, owner + encode(rule, family)) for rule in rules],
        ]

    def _chain(self, family: int, table: str, name: str, rules: Rules, few: bool) -> list[bytes]:
        """Write one chain; or, if few are written, delete only the rules that it loses."""
        if few:
            surplus = self._surplus((family, table, name), [expressions(rule, family) for rule in rules])
            if surplus is not None:
                self._handles.forget((family, table, name))
                owner, number = _of_rules(table, name), NFPROTO[family]
                return [nfnetlink(_DELRULE, 0, number, owner + attribute(_RULE_HANDLE, each)) for each in surplus]
        return self.chain(family, table, name, rules, new=False)

    def _surplus(self, place: Place, bodies: list[bytes]) -> list[bytes] | None:
        """Handles of the rules whose deletion leaves a chain with these; None if deletion is not enough."""
        try:
            held = self._handles.held(place)
        except NetlinkError as error:
            if error.kind is ErrorKind.NOT_THERE:
                return None
            raise
        wanted = iter([*bodies, None])
        following = next(wanted)
        surplus = []
        for body, handle in held:
            if body == following:
                following = next(wanted)
            else:
                surplus.append(handle)
        return surplus if following is None and held else None

    def _edit(self, family: int, table: str, edit: Edit, echo: bool) -> list[bytes]:
        place, owner, number = (family, table, edit.chain), _of_rules(table, edit.chain), NFPROTO[family]
        if edit.verb == "-D":
            handle = self._handles.take(place, expressions(edit.rule, family))
            if handle is None:
                raise NoSuchRule(f"no such rule in {edit.chain} of {table}: {edit.rule}")
            return [nfnetlink(_DELRULE, 0, number, owner + attribute(_RULE_HANDLE, handle))]
        if not echo:
            self._handles.forget(place)
        flags = CREATE | (APPEND if edit.verb == "-A" else 0) | (ECHO if echo else 0)
        return [nfnetlink(_NEWRULE, flags, number, owner + encode(edit.rule, family))]

    def _heard(self, request: bytes, answer: bytes) -> None:
        """Records the kernel's echo of a created rule."""
        fields = attributes(request[_HEADERS:])
        table, name = (fields[kind].rstrip(b"\0").decode() for kind in (_RULE_TABLE, _RULE_CHAIN))
        place = _FAMILY_OF[request[_NETLINK_HEADER]], table, name
        self._handles.made(place, fields[_RULE_EXPRESSIONS], answer, first=not flags_of(request) & APPEND)

    def _commit(self, parts: list[bytes]) -> int:
        """Apply changes even if a chain cannot be deleted because other programs' rules jump to it."""
        while True:
            try:
                return self._connection.transaction(parts, SUBSYSTEM, self._heard)
            except NetlinkError as error:
                held = {refusal.request for refusal in error.refusals if _is_held(refusal)}
                others = [r for r in error.refusals if r.request not in held and r.kind is not ErrorKind.NO_ROOM]
                if others or not held:
                    raise error.about(f"nf_tables refused {_refused((others or error.refusals)[0])}") from None
                self._report(held)
                parts = [part for part in parts if part not in held]

    def _report(self, held: Iterable[bytes]) -> None:
        names: dict[str, list[str]] = {}
        for request in held:
            names.setdefault(_table(request), []).append(_name(request))
        for table, chains in sorted(names.items()):
            self._left(table, sorted(chains))


def _of_chain(table: str, name: str) -> bytes:
    return text(_CHAIN_TABLE, table) + text(_CHAIN_NAME, name)


def _of_rules(table: str, name: str) -> bytes:
    return text(_RULE_TABLE, table) + text(_RULE_CHAIN, name)


def _kind(request: bytes) -> int:
    return struct.unpack_from("=H", request, 4)[0] if request else 0


def _name(request: bytes) -> str:
    """The chain of a message in a transaction."""
    names = attributes(request[_HEADERS:])
    name = names.get(_CHAIN_NAME if _kind(request) in (_NEWCHAIN, _DELCHAIN) else _RULE_CHAIN, b"")
    return name.rstrip(b"\0").decode(errors="replace")


def _table(request: bytes) -> str:
    """The table of a message in a transaction."""
    return attributes(request[_HEADERS:]).get(_RULE_TABLE, b"").rstrip(b"\0").decode(errors="replace")


def _is_held(refusal: Refusal) -> bool:
    return refusal.kind is ErrorKind.BUSY and _kind(refusal.request) == _DELCHAIN


def _refused(refusal: Refusal) -> str:
    """A message of a transaction as text."""
    if not refusal.request:
        return "chains"
    verb = {_DELCHAIN: "to delete chain", _NEWRULE: "a rule in chain"}.get(_kind(refusal.request), "chain")
    return f"{verb} {_name(refusal.request)} of {_table(refusal.request)}"
