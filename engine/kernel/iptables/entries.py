"""Encodes rules in the syntax of `iptables-save` as entries of ip_tables and ip6_tables; pure.

An entry consists of the header match, further matches, and a target.  The destination of a jump is kept as a name,
since its offset is not known before the table is linked.  Wire format: linux/netfilter_ipv4/ip_tables.h, ip6_tables.h,
x_tables.h.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from engine.kernel.iptables import xt
from engine.kernel.iptables.shapes import CHAIN, Shapes

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


Rule = tuple[bytes, str | None]
"""An entry, and the chain that it jumps to, or None."""


def encode(rule: str, family: int) -> Rule:
    """Encodes a rule; ValueError for an unsupported option."""
    if rule.endswith('"'):
        return _by_word(rule, family), FALL_THROUGH
    entry, chain = _shapes.encode(rule, family)
    return entry, chain or None


def standard(verdict: int) -> bytes:
    """A standard target: a verdict, or a jump to an offset."""
    return struct.pack("=H29sBi4x", STANDARD_BYTES, b"", 0, verdict)


@lru_cache(maxsize=16)
def policy(verdict: int, family: int) -> bytes:
    """The last entry of a chain: it matches everything."""
    return _head({}, b"", family, STANDARD_BYTES) + standard(verdict)


def beginning(chain: str, family: int) -> bytes:
    """The first entry of a user-defined chain; that of a chain ERROR ends a table."""
    return chain.encode().ljust(30, b"\0").join(_beginnings[family])


def _by_word(rule: str, family: int) -> bytes:
    matches, jump, words = f" {rule}".rpartition(" -j ")
    if not jump:
        matches, words = words, ""
    target = _target(words, family)
    before, quoted, rest = matches.partition('-m comment --comment "')
    comment, _, after = rest.partition('"')
    header: dict[str, tuple[str, bool]] = {}
    found = _parts(before.split(), header)
    if quoted:
        found += _extension("comment", 0, xt.comment(comment))
    return _head(header, found + _parts(after.split(), header), family, len(target)) + target


_shapes = Shapes(_by_word, with_chains=False)


def _target(words: str, family: int) -> bytes:
    if not words or words.startswith(CHAIN):
        return standard(0)
    if words in VERDICTS:
        return standard(VERDICTS[words])
    if extension := xt.target(words.split(), family):
        return _extension(*extension)
    raise ValueError(f"unsupported target {words!r}")


def _extension(name: str, revision: int, data: bytes) -> bytes:
    """A match or a target."""
    data += bytes(-len(data) % 8)
    return _MATCH(TARGET_HEAD + len(data), name.encode(), revision) + data


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


def _network(text: str) -> bytes:
    """An address and a mask."""
    address, _, prefix = text.partition("/")
    packed = xt.address(address)
    bits = 8 * len(packed)
    mask = ((1 << int(prefix)) - 1 << bits - int(prefix)).to_bytes(len(packed), "big")
    return bytes(a & m for a, m in zip(packed, mask, strict=True)) + mask


def _interface(text: str) -> tuple[bytes, bytes]:
    """An interface's name and the mask of compared bytes: with `+` those before it, else including the final zero."""
    return text.encode(), b"\xff" * (len(text) - 1 if text.endswith("+") else len(text) + 1)


_beginnings = {
    family: (_head({}, b"", family, ERROR_BYTES) + struct.pack("=H29sB", ERROR_BYTES, b"ERROR", 0), bytes(2))
    for family in (4, 6)
}
