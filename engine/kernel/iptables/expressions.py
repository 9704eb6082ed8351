"""Encodes rules in the syntax of `iptables-save` as the expressions that `iptables-nft` generates; pure.

`iptables-nft-restore` needs time quadratic in the number of new chains; rules written by netlink in its own
form are still printed by `iptables-nft -S`.  Supports only the options that `engine.backends.iptables`
writes to chains of Services.  Wire format: linux/netfilter/nf_tables.h, nf_tables_compat.h
and the xt_*.h of each match and target.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from functools import lru_cache

from engine.addresses import parse_address
from engine.kernel.iptables import xt
from engine.kernel.netlink import attribute

_ELEMENT, _EXPRESSION_NAME, _EXPRESSION_DATA = 1, 1, 2
"""Nested attributes without NLA_F_NESTED, which is missing in the kernel's listings too."""

_EQUAL, _NOT_EQUAL = 0, 1
_META_MARK, _META_INTERFACE, _META_PROTOCOL = 3, 6, 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_VERDICTS = {"ACCEPT": 1, "DROP": 0, "RETURN": 0xFFFFFFFB}
_JUMP = 0xFFFFFFFD


def _expression(name: bytes, data: bytes) -> bytes:
    return attribute(_ELEMENT, attribute(_EXPRESSION_NAME, name + b"\0") + attribute(_EXPRESSION_DATA, data))


def _number(kind: int, value: int) -> bytes:
    return struct.pack("=HH", 8, kind) + value.to_bytes(4, "big")


def _compare(value: bytes, operator: int) -> bytes:
    data = _number(1, 1) + _number(2, operator) + attribute(3, attribute(1, value))
    return _expression(b"cmp", data)


def _masked(mask: bytes) -> bytes:
    masked = _number(1, 1) + _number(2, 1) + _number(3, len(mask)) + _number(6, 0)
    masked += attribute(4, attribute(1, mask)) + attribute(5, attribute(1, bytes(len(mask))))
    return _expression(b"bitwise", masked)


def _payload(header: int, offset: int, length: int) -> bytes:
    return _expression(b"payload", _number(1, 1) + _number(2, header) + _number(3, offset) + _number(4, length))


def _meta(key: int) -> bytes:
    return _expression(b"meta", _number(2, key) + _number(1, 1))


def _extension(kind: bytes, name: str, revision: int, info: bytes) -> bytes:
    """A match or target of xtables; its data is padded to multiples of eight bytes."""
    info += bytes(-len(info) % 8)
    return _expression(kind, attribute(1, name.encode() + b"\0") + _number(2, revision) + attribute(3, info))


def _frame(build: Callable[[bytes], bytes], size: int) -> tuple[bytes, bytes]:
    """The bytes around `size` bytes of data in an expression, cached, as joining is cheaper than building."""
    hole = b"\xa5" * size
    before, _, after = build(hole).partition(hole)
    return before, after


_COUNTER = _expression(b"counter", attribute(1, bytes(8)) + attribute(2, bytes(8)))
_BEFORE_COUNTS = _COUNTER[: _COUNTER.index(b"counter\0") + 12]


def _address(field: int) -> Callable[[str, int, int], bytes]:
    """`field`: 0 source, 1 destination."""

    @lru_cache(maxsize=8)
    def whole(operator: int, size: int) -> tuple[bytes, bytes]:
        load = _payload(_NETWORK_HEADER, (12 if size == 4 else 8) + field * size, size)
        return _frame(lambda address: load + _compare(address, operator), size)

    def encode(text: str, operator: int, family: int) -> bytes:
        address, _, prefix = text.partition("/")
        packed = parse_address(address)
        size, bits = len(packed), int(prefix)
        if bits == 8 * size:
            before, after = whole(operator, size)
            return before + packed + after
        offset = (12 if family == 4 else 8) + field * size
        if not bits % 8:
            return _payload(_NETWORK_HEADER, offset, bits // 8) + _compare(packed[: bits // 8], operator)
        mask = ((1 << bits) - 1 << 8 * size - bits).to_bytes(size, "big")
        return _payload(_NETWORK_HEADER, offset, size) + _masked(mask) + _compare(packed, operator)

    return encode


def _interface(text: str, operator: int, _: int) -> bytes:
    name = text[:-1].encode() if text.endswith("+") else text.encode().ljust(16, b"\0")
    return _meta(_META_INTERFACE) + _compare(name, operator)


@lru_cache(maxsize=8)
def _protocol(text: str, operator: int, _: int) -> bytes:
    return _meta(_META_PROTOCOL) + _compare(bytes((xt.PROTOCOLS[text],)), operator)


_ORDER: dict[str, Callable[[str, int, int], bytes]] = {
    "-i": _interface,
    "-p": _protocol,
    "-s": _address(0),
    "-d": _address(1),
}
"""A rule's matches on the packet's header, in the order used by iptables-nft."""


_COMMENT = _frame(lambda text: _extension(b"match", "comment", 0, text), 256)
_DNAT = _frame(lambda info: _extension(b"target", "DNAT", 2, info), 48)
_NO_PORTS = {name: _extension(b"match", name, 0, xt.ALL_PORTS) for name in ("tcp", "udp")}


@lru_cache(maxsize=1024)
def _port(number: int) -> bytes:
    return _payload(_TRANSPORT_HEADER, 2, 2) + _compare(number.to_bytes(2, "big"), _EQUAL)


def _ports(name: str, words: list[str]) -> bytes:
    """A match on the destination port; without a port it only repeats the protocol."""
    number = xt.port(words)
    if name == "sctp":
        return _extension(b"match", name, 0, xt.ports(name, number))
    return _port(number) if number else _NO_PORTS[name]


@lru_cache(maxsize=4096)
def _match_data(name: str, revision: int, info: bytes) -> bytes:
    return _extension(b"match", name, revision, info)


def _target(words: list[str], family: int) -> bytes:
    name = words[0]
    if name == "DNAT":
        return xt.destination(words[2]).join(_DNAT)
    if name in _VERDICTS:
        return _verdict(_number(1, _VERDICTS[name]))
    if extension := xt.target(words, family):
        return _extension(b"target", *extension)
    return name.encode().join(_jump(len(name)))


def _verdict(verdict: bytes) -> bytes:
    return _expression(b"immediate", _number(1, 0) + attribute(2, attribute(2, verdict)))


@lru_cache(maxsize=32)
def _jump(size: int) -> tuple[bytes, bytes]:
    return _frame(lambda name: _verdict(_number(1, _JUMP) + attribute(2, name + b"\0")), size)


def expressions(rule: str, family: int) -> bytes:
    """The list of a rule's expressions; ValueError for an unsupported option."""
    matches, jump, target = f" {rule}".rpartition(" -j ")
    if not jump:
        matches, target = target, ""
    head, quoted, rest = matches.partition('-m comment --comment "')
    comment, _, tail = rest.partition('"')
    before, header = _parts(head, family)
    after, more = _parts(tail, family)
    if more:
        header = {**header, **more}
    parts = [
        before,
        xt.comment(comment).join(_COMMENT) if quoted else b"",
        after,
        _COUNTER,
        _target(target.split(), family) if target else b"",
    ]
    return b"".join([*(header[option] for option in _ORDER if option in header), *parts])


def without_counters(found: bytes) -> bytes:
    """A rule's expressions from a kernel listing, in the same form as from `expressions`."""
    at = found.find(_BEFORE_COUNTS)
    return found if at < 0 else found[:at] + _COUNTER + found[at + len(_COUNTER) :]


def protocol(rule: str) -> int:
    """The protocol of a rule, which matches and targets of xtables require; 0 for any."""
    _, found, rest = f" {rule}".partition(" -p ")
    return xt.PROTOCOLS[rest.split(" ", 1)[0]] if found else 0


@lru_cache(maxsize=4096)
def _parts(text: str, family: int) -> tuple[bytes, dict[str, bytes]]:
    """Matches in order, and by option those on the packet's header.  Cached, as many rules share the same matches."""
    header: dict[str, bytes] = {}

    def field(option: str, value: str, inverted: bool) -> None:
        header[option] = _ORDER[option](value, _NOT_EQUAL if inverted else _EQUAL, family)

    return xt.parts(text.split(), _ORDER, field, _match), header


def _match(name: str, words: list[str]) -> bytes:
    if name in xt.PROTOCOLS:
        return _ports(name, words)
    if name == "mark":  # the only match that the tool encodes natively, without an extension
        mark, mask, inverted = struct.unpack("=IIB3x", xt.mark(words))
        value, bits = mark.to_bytes(4, sys.byteorder), mask.to_bytes(4, sys.byteorder)
        return _meta(_META_MARK) + _masked(bits) + _compare(value, _NOT_EQUAL if inverted else _EQUAL)
    return _match_data(*xt.match(name, words))
