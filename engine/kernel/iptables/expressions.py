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

from engine.kernel.iptables import xt
from engine.kernel.iptables.shapes import CHAIN, Shapes
from engine.kernel.netlink import attribute
from engine.model import PROTOCOLS

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


_RULE_EXPRESSIONS, _RULE_COMPAT = 4, 5
_COMPAT = {0: b""} | {
    number: attribute(_RULE_COMPAT, attribute(1, number.to_bytes(4, "big")) + attribute(2, bytes(4)))
    for number in PROTOCOLS.values()
}
"""A rule's protocol, which matches and targets of xtables require."""
_COUNTER = _expression(b"counter", attribute(1, bytes(8)) + attribute(2, bytes(8)))
_BEFORE_COUNTS = _COUNTER[: _COUNTER.index(b"counter\0") + 12]


def _address(field: int) -> Callable[[str, int, int], bytes]:
    """`field`: 0 source, 1 destination."""

    def encode(text: str, operator: int, family: int) -> bytes:
        address, _, prefix = text.partition("/")
        packed = xt.address(address)
        size, bits = len(packed), int(prefix)
        offset = (12 if family == 4 else 8) + field * size
        if not bits % 8:
            return _payload(_NETWORK_HEADER, offset, bits // 8) + _compare(packed[: bits // 8], operator)
        mask = ((1 << bits) - 1 << 8 * size - bits).to_bytes(size, "big")
        return _payload(_NETWORK_HEADER, offset, size) + _masked(mask) + _compare(packed, operator)

    return encode


def _interface(text: str, operator: int, _: int) -> bytes:
    name = text[:-1].encode() if text.endswith("+") else text.encode().ljust(16, b"\0")
    return _meta(_META_INTERFACE) + _compare(name, operator)


def _protocol(text: str, operator: int, _: int) -> bytes:
    return _meta(_META_PROTOCOL) + _compare(bytes((xt.PROTOCOLS[text],)), operator)


_ORDER: dict[str, Callable[[str, int, int], bytes]] = {
    "-i": _interface,
    "-p": _protocol,
    "-s": _address(0),
    "-d": _address(1),
}
"""A rule's matches on the packet's header, in the order used by iptables-nft."""


def _ports(name: str, words: list[str]) -> bytes:
    """A match on the destination port; without a port it only repeats the protocol."""
    number = xt.port(words)
    if number and name != "sctp":
        return _payload(_TRANSPORT_HEADER, 2, 2) + _compare(number.to_bytes(2, "big"), _EQUAL)
    return _extension(b"match", name, 0, xt.ports(name, number))


def _target(words: list[str], family: int) -> bytes:
    name = words[0]
    if name in _VERDICTS:
        return _verdict(_number(1, _VERDICTS[name]))
    if extension := xt.target(words, family):
        return _extension(b"target", *extension)
    if name.startswith(CHAIN):
        return _verdict(_number(1, _JUMP) + attribute(2, name.encode() + b"\0"))
    raise ValueError(f"unsupported target {name!r}")


def _verdict(verdict: bytes) -> bytes:
    return _expression(b"immediate", _number(1, 0) + attribute(2, attribute(2, verdict)))


def expressions(rule: str, family: int) -> bytes:
    """The list of a rule's expressions; ValueError for an unsupported option."""
    matches, jump, target = f" {rule}".rpartition(" -j ")
    if not jump:
        matches, target = target, ""
    head, quoted, rest = matches.partition('-m comment --comment "')
    comment, _, tail = rest.partition('"')
    header: dict[str, bytes] = {}
    parts = [
        _parts(head, family, header),
        _extension(b"match", "comment", 0, xt.comment(comment)) if quoted else b"",
        _parts(tail, family, header),
        _COUNTER,
        _target(target.split(), family) if target else b"",
    ]
    return b"".join([*(header[option] for option in _ORDER if option in header), *parts])


def _by_word(rule: str, family: int) -> bytes:
    return _COMPAT[_protocol_of(rule)] + attribute(_RULE_EXPRESSIONS, expressions(rule, family))


_shapes = Shapes(_by_word, with_chains=True)


def encode(rule: str, family: int) -> bytes:
    """The attributes of a rule that follow its table and chain; ValueError for an unsupported option."""
    return _by_word(rule, family) if rule.endswith('"') else _shapes.encode(rule, family)[0]


def without_counters(found: bytes) -> bytes:
    """A rule's expressions from a kernel listing, in the same form as from `expressions`."""
    at = found.find(_BEFORE_COUNTS)
    return found if at < 0 else found[:at] + _COUNTER + found[at + len(_COUNTER) :]


def _protocol_of(rule: str) -> int:
    _, found, rest = f" {rule}".partition(" -p ")
    return xt.PROTOCOLS[rest.split(" ", 1)[0]] if found else 0


def _parts(text: str, family: int, header: dict[str, bytes]) -> bytes:
    """Matches in order; those on the packet's header are added to `header`, by option."""

    def field(option: str, value: str, inverted: bool) -> None:
        header[option] = _ORDER[option](value, _NOT_EQUAL if inverted else _EQUAL, family)

    return xt.parts(text.split(), _ORDER, field, _match)


def _match(name: str, words: list[str]) -> bytes:
    if name in xt.PROTOCOLS:
        return _ports(name, words)
    if name == "mark":  # the only match that the tool encodes natively, without an extension
        mark, mask, inverted = struct.unpack("=IIB3x", xt.mark(words))
        value, bits = mark.to_bytes(4, sys.byteorder), mask.to_bytes(4, sys.byteorder)
        return _meta(_META_MARK) + _masked(bits) + _compare(value, _NOT_EQUAL if inverted else _EQUAL)
    return _extension(b"match", *xt.match(name, words))
