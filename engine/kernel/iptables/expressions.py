"""Rules in the words of `iptables-save` as the expressions that `iptables-nft` makes of them: pure encoding.

`iptables-nft-restore` needs time quadratic in the number of new chains; written by netlink in its own
form, the rules are still what `iptables-nft -S` prints.  Knows the options that `engine.backends.iptables`
writes into chains of Services, no others.  Wire format: linux/netfilter/nf_tables.h, nf_tables_compat.h
and the xt_*.h of each match and target.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache

from engine.addresses import parse_address
from engine.kernel.pipeline import attribute

_NESTED = 0x8000
_ELEMENT, _EXPRESSION_NAME, _EXPRESSION_DATA = _NESTED | 1, 1, _NESTED | 2
_EQUAL, _NOT_EQUAL = 0, 1
_META_INTERFACE, _META_PROTOCOL = 6, 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_ACCEPT, _DROP, _JUMP = 1, 0, 0xFFFFFFFD
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_RECENT_CHECK, _RECENT_SET, _RECENT_REAP = 1, 2, 1 << 5
_PORT_UNREACHABLE = {"icmp-port-unreachable": 3, "icmp6-port-unreachable": 4}


def _expression(name: bytes, data: bytes) -> bytes:
    return attribute(_ELEMENT, attribute(_EXPRESSION_NAME, name + b"\0") + attribute(_EXPRESSION_DATA, data))


def _number(kind: int, value: int) -> bytes:
    return struct.pack("=HH", 8, kind) + value.to_bytes(4, "big")


def _compare(value: bytes, operator: int) -> bytes:
    data = _number(1, 1) + _number(2, operator) + attribute(_NESTED | 3, attribute(1, value))
    return _expression(b"cmp", data)


def _payload(header: int, offset: int, length: int) -> bytes:
    return _expression(b"payload", _number(1, 1) + _number(2, header) + _number(3, offset) + _number(4, length))


def _meta(key: int) -> bytes:
    return _expression(b"meta", _number(2, key) + _number(1, 1))


def _extension(kind: bytes, name: str, revision: int, info: bytes) -> bytes:
    """A match or target of xtables; the kernel wants its data in multiples of eight bytes."""
    info += bytes(-len(info) % 8)
    return _expression(kind, attribute(1, name.encode() + b"\0") + _number(2, revision) + attribute(3, info))


def _frame(build: Callable[[bytes], bytes], size: int) -> tuple[bytes, bytes]:
    """What surrounds `size` bytes of data in the expressions built of them; joining is cheaper than building."""
    hole = b"\xa5" * size
    before, _, after = build(hole).partition(hole)
    return before, after


_COUNTER = _expression(b"counter", attribute(1, bytes(8)) + attribute(2, bytes(8)))


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
        masked = _number(1, 1) + _number(2, 1) + _number(3, size)
        masked += attribute(_NESTED | 4, attribute(1, mask)) + attribute(_NESTED | 5, attribute(1, bytes(size)))
        load = _payload(_NETWORK_HEADER, offset, size)
        return load + _expression(b"bitwise", masked) + _compare(packed, operator)

    return encode


def _interface(text: str, operator: int, _: int) -> bytes:
    name = text[:-1].encode() if text.endswith("+") else text.encode().ljust(16, b"\0")
    return _meta(_META_INTERFACE) + _compare(name, operator)


@lru_cache(maxsize=8)
def _protocol(text: str, operator: int, _: int) -> bytes:
    return _meta(_META_PROTOCOL) + _compare(bytes((_PROTOCOLS[text],)), operator)


_ORDER = {"-i": _interface, "-p": _protocol, "-s": _address(0), "-d": _address(1)}
"""What a rule says of the packet itself, in the order in which iptables-nft puts it."""


_COMMENT = _frame(lambda text: _extension(b"match", "comment", 0, text), 256)
_DNAT = _frame(lambda info: _extension(b"target", "DNAT", 2, info), 48)


def _comment(text: str) -> bytes:
    return text.encode().ljust(256, b"\0").join(_COMMENT)


@lru_cache(maxsize=1024)
def _port(number: int) -> bytes:
    return _payload(_TRANSPORT_HEADER, 2, 2) + _compare(number.to_bytes(2, "big"), _EQUAL)


def _ports(name: str, words: list[str]) -> bytes:
    """A match on the destination port; without one it says nothing but the protocol again."""
    number = 0
    if words and words[0] == "--dport":
        number = int(words[1])
        del words[:2]
    if name == "sctp":
        return _sctp(number)
    return _port(number) if number else _NO_PORTS[name]


def _sctp(number: int) -> bytes:
    """struct xt_sctp_info: ports, chunk types (none: four flags of type 255), which of these count."""
    dest_ports = 2 if number else 0
    info = struct.pack("=HHHH256sI", number, number, 0, 0, b"", 0) + b"\xff\0\0" * 4
    return _extension(b"match", "sctp", 0, info + struct.pack("=III", 0, dest_ports, 0))


_NO_PORTS = {
    name: _extension(b"match", name, 0, struct.pack("=HHHHI", 0, 0xFFFF, 0, 0xFFFF, 0)) for name in ("tcp", "udp")
}


@lru_cache(maxsize=4096)
def _statistic(probability: str) -> bytes:
    chance = round(float(probability) * 0x80000000)
    info = struct.pack("=HHIIIQ", 0, 0, chance, 0, chance, 0)  # twice: the tool fills in the fields of mode nth too
    return _extension(b"match", "statistic", 0, info)


def _recent(words: list[str]) -> bytes:
    """`--set` or `--rcheck --seconds N --reap`, then `--name NAME --mask MASK --rsource`."""
    setting = words[0] == "--set"
    check = _RECENT_SET if setting else _RECENT_CHECK | _RECENT_REAP
    seconds = 0 if setting else int(words[2])
    at = words.index("--name")
    mask = parse_address(words[at + 3]).ljust(16, b"\xff" if ":" in words[at + 3] else b"\0")
    info = struct.pack("=IIBB200sB1x", seconds, 0, check, 0, words[at + 1].encode(), 0) + mask
    del words[: at + 5]
    return _extension(b"match", "recent", 1, info)


def _address_type(words: list[str]) -> bytes:
    source = words[0] == "--src-type"
    del words[:2]
    local = 1 << 2
    return _extension(b"match", "addrtype", 1, struct.pack("=HHI", local * source, local * (not source), 0))


def _target(words: list[str]) -> bytes:
    name = words[0]
    if name in ("ACCEPT", "DROP"):
        return _verdict(_number(1, _ACCEPT if name == "ACCEPT" else _DROP))
    if name == "DNAT":
        return _destination(words[2]).join(_DNAT)
    if name == "REJECT":
        return _extension(b"target", "REJECT", 0, struct.pack("=I", _PORT_UNREACHABLE[words[2]]))
    return name.encode().join(_jump(len(name)))


def _verdict(verdict: bytes) -> bytes:
    return _expression(b"immediate", _number(1, 0) + attribute(_NESTED | 2, attribute(_NESTED | 2, verdict)))


@lru_cache(maxsize=32)
def _jump(size: int) -> tuple[bytes, bytes]:
    return _frame(lambda name: _verdict(_number(1, _JUMP) + attribute(2, name + b"\0")), size)


def _destination(text: str) -> bytes:
    """A range of one address and one port: NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED."""
    host, _, port = text.rpartition(":")
    address = parse_address(host.strip("[]")).ljust(16, b"\0")
    number = int(port).to_bytes(2, "big")
    return struct.pack("=I", 3) + address + address + number + number + bytes(8)


def expressions(rule: str, family: int) -> bytes:
    """The list of a rule's expressions; ValueError for an option that is not known."""
    matches, jump, target = f" {rule}".rpartition(" -j ")
    if not jump:
        matches, target = target, ""
    head, quoted, rest = matches.partition('-m comment --comment "')
    comment, _, tail = rest.partition('"')
    header: dict[str, bytes] = {}
    parts = [
        _parts(head.split(), family, header),
        _comment(comment) if quoted else b"",
        _parts(tail.split(), family, header),
        _COUNTER,
        _target(target.split()) if target else b"",
    ]
    return b"".join([*(header[option] for option in _ORDER if option in header), *parts])


def protocol(rule: str) -> int:
    """The protocol that a rule is about, which matches and targets of xtables ask for; 0 for any."""
    _, found, rest = f" {rule}".partition(" -p ")
    return _PROTOCOLS[rest.split(" ", 1)[0]] if found else 0


def _parts(words: list[str], family: int, header: dict[str, bytes]) -> bytes:
    """Matches in their order; what belongs into the header of a rule goes there."""
    found = b""
    operator = _EQUAL
    while words:
        word = words.pop(0)
        if word == "!":
            operator = _NOT_EQUAL
        elif word in _ORDER:
            header[word] = _ORDER[word](words.pop(0), operator, family)
            operator = _EQUAL
        elif word == "-m":
            found += _match(words.pop(0), words)
        else:
            raise ValueError(f"option {word!r} is not known")
    return found


def _match(name: str, words: list[str]) -> bytes:
    if name in _PROTOCOLS:
        return _ports(name, words)
    if name == "recent":
        return _recent(words)
    if name == "addrtype":
        return _address_type(words)
    if name == "statistic":
        probability = words[3]
        del words[:4]
        return _statistic(probability)
    raise ValueError(f"match {name!r} is not known")
