"""Chains of the nft variant by netlink: written whole, deleted, listed.

A chain's emptying and filling share a transaction, and what is jumped to is sent first, so rules that
lead on are always complete; how much one transaction carries is the socket's affair.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from engine.backends.iptables.program import Rules
from engine.kernel.base import KernelError
from engine.kernel.iptables.expressions import expressions, protocol
from engine.kernel.nftables.netlink import BEGIN, END, NFPROTO
from engine.kernel.pipeline import Pipeline, Refusal, attribute, attributes
from engine.model import PROTOCOLS

NETLINK_NETFILTER = 12
_NEWCHAIN, _GETCHAIN, _DELCHAIN, _NEWRULE, _DELRULE = 0x0A03, 0x0A04, 0x0A05, 0x0A06, 0x0A08
_REQUEST, _CREATE, _APPEND = 1, 0x400, 0x800
_NESTED = 0x8000
_CHAIN_TABLE, _CHAIN_NAME = 1, 3
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS, _RULE_COMPAT = 1, 2, _NESTED | 4, _NESTED | 5
_ERROR = 2
_SOL_NETLINK, _CAP_ACK = 270, 10
_TRANSACTION_BYTES = 1 << 24
_head = struct.Struct("=IHHIIBBH").pack


def _message(kind: int, flags: int, family: int, payload: bytes) -> bytes:
    return _head(20 + len(payload), kind, flags, 0, 0, NFPROTO[family], 0, 0) + payload


class ChainWriter:
    """Chains of iptables' tables in nf_tables, over a socket (AF_NETLINK, NETLINK_NETFILTER)."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pipeline = Pipeline(sock)
        sock.setsockopt(_SOL_NETLINK, _CAP_ACK, 0)  # what is refused comes back whole, with its chain's name
        for option in (32, socket.SO_SNDBUF):  # SO_SNDBUFFORCE, where that is allowed
            try:
                sock.setsockopt(socket.SOL_SOCKET, option, 2 * _TRANSACTION_BYTES)
                break
            except PermissionError:
                continue
        # The kernel doubles what is asked for its own overhead; a message may have about half of it.
        self._limit = min(_TRANSACTION_BYTES, sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2 - 70_000)

    def chains(self, family: int) -> dict[str, list[str]]:
        """The names of all chains, by table."""
        bodies = self._pipeline.dump(_message(_GETCHAIN, _REQUEST, family, b""))
        if isinstance(bodies, Refusal):
            raise KernelError(f"chains could not be listed: {bodies}")
        found: dict[str, list[str]] = {}
        for body in bodies:
            fields = attributes(body[4:])
            table, name = (fields[kind].rstrip(b"\0").decode() for kind in (_CHAIN_TABLE, _CHAIN_NAME))
            found.setdefault(table, []).append(name)
        return found

    def has(self, family: int, table: str, name: str) -> bool:
        """Whether one chain is there."""
        answer = self._pipeline.request(_message(_GETCHAIN, _REQUEST, family, _of_chain(table, name)))
        return not isinstance(answer, Refusal)

    def change(self, family: int, table: str, chains: Mapping[str, Rules], deleted: Iterable[str] = ()) -> int:
        """Make or empty each chain and fill it, in the order given; empty the others and delete them; bytes sent."""
        names = list(deleted)
        parts = chain(
            (_written(family, table, name, rules) for name, rules in chains.items()),
            (_message(_DELRULE, _REQUEST, family, _of_rules(table, name)) for name in names),
            (_message(_DELCHAIN, _REQUEST, family, _of_chain(table, name)) for name in names),
        )
        return self._send(parts, f"chains of {table}")

    def _send(self, parts: Iterator[bytes], what: str) -> int:
        sent = size = 0
        pending: list[bytes] = []
        for part in parts:
            if pending and size + len(part) > self._limit:
                sent += self._commit(pending, what)
                pending, size = [], 0
            pending.append(part)
            size += len(part)
        return sent + (self._commit(pending, what) if pending else 0)

    def _commit(self, parts: list[bytes], what: str) -> int:
        batch = b"".join([BEGIN, *parts, END])
        try:
            self._sock.send(batch)
        except OSError as error:
            raise KernelError(f"netlink refused {len(batch)} bytes, {what}: {os.strerror(error.errno)}") from error
        code, name = _first_error(self._sock)
        if code:
            raise KernelError(f"nf_tables refused {what}, {name}: {os.strerror(code)} ({errno.errorcode[code]})")
        return len(batch)


def _of_chain(table: str, name: str) -> bytes:
    return attribute(_CHAIN_TABLE, table.encode() + b"\0") + attribute(_CHAIN_NAME, name.encode() + b"\0")


def _of_rules(table: str, name: str) -> bytes:
    return attribute(_RULE_TABLE, table.encode() + b"\0") + attribute(_RULE_CHAIN, name.encode() + b"\0")


def _written(family: int, table: str, name: str, rules: Rules) -> bytes:
    """One chain made, emptied and filled."""
    owner = _of_rules(table, name)
    messages = [
        _message(_NEWCHAIN, _REQUEST | _CREATE, family, _of_chain(table, name)),
        _message(_DELRULE, _REQUEST, family, owner),
    ]
    for rule in rules:
        body = owner + _COMPAT[protocol(rule)] + attribute(_RULE_EXPRESSIONS, expressions(rule, family))
        messages.append(_message(_NEWRULE, _REQUEST | _CREATE | _APPEND, family, body))
    return b"".join(messages)


_COMPAT = {0: b""} | {
    number: attribute(_RULE_COMPAT, attribute(1, number.to_bytes(4, "big")) + attribute(2, bytes(4)))
    for number in PROTOCOLS.values()
}
"""A rule's protocol, which matches and targets of xtables ask for."""


def _first_error(sock: socket.socket) -> tuple[int, str]:
    """Read until the transaction's acknowledgement; the first error code and its chain, 0 when all is well."""
    while True:
        data = sock.recv(1 << 16)
        if len(data) >= 20 and struct.unpack_from("=H", data, 4)[0] == _ERROR:
            code, _, kind = struct.unpack_from("=iIH", data, 16)
            names = attributes(data[40:]) if code else {}
            if code:
                _drain(sock)
            name = names.get(_CHAIN_NAME if kind in (_NEWCHAIN, _DELCHAIN) else _RULE_CHAIN, b"its end\0")
            return -code, name.rstrip(b"\0").decode(errors="replace")


def _drain(sock: socket.socket) -> None:
    """Forget further errors of the same transaction: all of them are there when the first one is."""
    try:
        while True:
            sock.recv(1 << 16, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return
