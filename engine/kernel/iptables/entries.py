"""Encodes rules in the syntax of `iptables-save` as entries of ip_tables and ip6_tables; pure.

An entry consists of the header match, further matches, and a target.  The destination of a jump is kept as a name,
since its offset is not known before the table is linked.  Wire format: linux/netfilter_ipv4/ip_tables.h, ip6_tables.h,
x_tables.h.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from engine.addresses import parse_address
from engine.kernel.iptables import xt

VERDICTS = {"ACCEPT": -2, "DROP": -1, "RETURN": -5}
FALL_THROUGH = ""
"""Used as chain name by a rule without a target, which continues with the next one."""

ADDRESS_BYTES = {4: 4, 6: 16}
IP_BYTES = {4: 84, 6: 136}
"""Sizes of struct ipt_ip and struct ip6t_ip6, with which an entry begins."""
OFFSETS_AT = {4: 88, 6: 140}
"""Position of the offsets of an entry's target and end."""
COUNTS_AT, HEAD_BYTES = {4: 92, 6: 144}, {4: 112, 6: 168}
"""Range of the kernel's internal fields in an entry: the hooks that reach it, and its counters."""

_IP6T_F_PROTO = 1
_INVERTED = {"-i": 0x01, "-s": 0x08, "-d": 0x10, "-p": 0x40}
_MATCH = struct.Struct("=H29sB").pack
TARGET_HEAD = 32
STANDARD_BYTES, ERROR_BYTES = 40, 64
VERDICT_FROM_END = 8
"""Distance of the verdict from the end of an entry with a standard target."""


class Rule(NamedTuple):
    """An entry, and the chain that it jumps to, or None."""

    entry: bytes
    jump: str | None


def encode(rule: str, family: int) -> Rule:
    """Encodes a rule; ValueError for an unsupported option."""
    matches, jump, words = f" {rule}".rpartition(" -j ")
    if not jump:
        matches, words = words, ""
    matches = matches.strip()
    source = b""
    if matches.startswith("-s "):
        text, _, matches = matches[3:].partition(" ")
        source, inverted = _network(text), 0
    elif matches.startswith("! -s "):
        text, _, matches = matches[5:].partition(" ")
        source, inverted = _network(text), _INVERTED["-s"]
    target, name = _target(words, family)
    head = (_parsed if "--comment" in matches else _known)(matches, family, len(target))
    if source:
        head = _with_source(head, source, inverted, family)
    return Rule(head + target, name)


def standard(verdict: int) -> bytes:
    """A standard target: a verdict, or a jump to an offset."""
    return struct.pack("=H29sBi4x", STANDARD_BYTES, b"", 0, verdict)


def policy(verdict: int, family: int) -> bytes:
    """The last entry of a chain: it matches everything."""
    return _head({}, b"", family, STANDARD_BYTES) + standard(verdict)


def beginning(chain: str, family: int) -> bytes:
    """The first entry of a user-defined chain; that of a chain ERROR ends a table."""
    return chain.encode().ljust(30, b"\0").join(_beginnings[family])


def _target(words: str, family: int) -> tuple[bytes, str | None]:
    if words.startswith("DNAT "):
        return xt.destination(words.rpartition(" ")[2]).join(_DNAT), None
    return _known_target(words, family)


@lru_cache(maxsize=1024)
def _known_target(words: str, family: int) -> tuple[bytes, str | None]:
    if not words:
        return standard(0), FALL_THROUGH
    if words in VERDICTS:
        return standard(VERDICTS[words]), None
    if extension := xt.target(words.split(), family):
        return _extension(*extension), None
    return standard(0), words


def _extension(name: str, revision: int, data: bytes) -> bytes:
    """A match or a target."""
    data += bytes(-len(data) % 8)
    return _MATCH(TARGET_HEAD + len(data), name.encode(), revision) + data


def _parsed(matches: str, family: int, target_bytes: int) -> bytes:
    """An entry up to its target."""
    before, quoted, rest = matches.partition('-m comment --comment "')
    comment, _, after = rest.partition('"')
    header: dict[str, tuple[str, bool]] = {}
    found = _parts(before.split(), header)
    if quoted:
        found += _extension("comment", 0, xt.comment(comment))
    return _head(header, found + _parts(after.split(), header), family, target_bytes)


_known = lru_cache(maxsize=4096)(_parsed)
"""Cached, as many rules share the same matches."""


def _parts(words: list[str], header: dict[str, tuple[str, bool]]) -> bytes:
    def field(option: str, value: str, inverted: bool) -> None:
        header[option] = value, inverted

    return xt.parts(words, _INVERTED, field, _match)


def _match(name: str, words: list[str]) -> bytes:
    if name in xt.PROTOCOLS:
        return _extension(name, 0, xt.ports(name, xt.port(words)))
    return _extension(*xt.match(name, words))


def _head(header: dict[str, tuple[str, bool]], matches: bytes, family: int, target_bytes: int) -> bytes:
    nothing = bytes(2 * ADDRESS_BYTES[family])
    source, destination = (_network(header[end][0]) if end in header else nothing for end in ("-s", "-d"))
    size = ADDRESS_BYTES[family]
    interface, mask = _interface(header["-i"][0]) if "-i" in header else (b"", b"")
    protocol = xt.PROTOCOLS[header["-p"][0]] if "-p" in header else 0
    inverted = sum(_INVERTED[option] for option, (_, negated) in header.items() if negated)
    found = source[:size] + destination[:size] + source[size:] + destination[size:]
    found += struct.pack("=16s16x16s16xH", interface, mask, protocol)
    if family == 4:
        found += struct.pack("=BB", 0, inverted)
    else:
        found += struct.pack("=BBB3x", 0, _IP6T_F_PROTO if protocol else 0, inverted)
    target_at = HEAD_BYTES[family] + len(matches)
    found += struct.pack("=IHH", 0, target_at, target_at + target_bytes)
    return found + bytes(HEAD_BYTES[family] - len(found)) + matches


def _with_source(head: bytes, source: bytes, inverted: int, family: int) -> bytes:
    """An entry's head without a source, with the given source added."""
    size = ADDRESS_BYTES[family]
    found = source[:size] + head[size : 2 * size] + source[size:] + head[3 * size :]
    if not inverted:
        return found
    at = IP_BYTES[family] - (1 if family == 4 else 4)
    return found[:at] + bytes((found[at] | inverted,)) + found[at + 1 :]


def _network(text: str) -> bytes:
    """An address and a mask."""
    address, _, prefix = text.partition("/")
    packed = parse_address(address)
    mask = _mask(int(prefix), len(packed))
    if mask == _ONES[len(packed)]:
        return packed + mask
    return bytes(a & m for a, m in zip(packed, mask, strict=True)) + mask


_ONES = {4: b"\xff" * 4, 16: b"\xff" * 16}


@lru_cache(maxsize=256)
def _mask(prefix: int, size: int) -> bytes:
    return ((1 << prefix) - 1 << 8 * size - prefix).to_bytes(size, "big")


def _interface(text: str) -> tuple[bytes, bytes]:
    """An interface's name and the mask of compared bytes: with `+` those before it, else including the final zero."""
    return text.encode(), b"\xff" * (len(text) - 1 if text.endswith("+") else len(text) + 1)


def _frame(made: bytes, hole: bytes) -> tuple[bytes, bytes]:
    before, _, after = made.partition(hole)
    return before, after


_DNAT = _frame(_extension("DNAT", 2, b"\xa5" * 48), b"\xa5" * 48)
_beginnings = {
    family: _frame(
        _head({}, b"", family, ERROR_BYTES) + struct.pack("=H29sB30s2x", ERROR_BYTES, b"ERROR", 0, b"\xa5" * 30),
        b"\xa5" * 30,
    )
    for family in (4, 6)
}
