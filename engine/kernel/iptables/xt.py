"""Encodes xtables' matches and targets, equal in both variants: options of `iptables-save` to structs.

Wire format: linux/netfilter/xt_*.h.  A parser consumes its words from the front of the list.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Container
from functools import lru_cache

from engine.addresses import parse_address
from engine.model import PROTOCOL_NAMES

PROTOCOLS = {name: number for number, name in PROTOCOL_NAMES.items()}
ALL_PORTS = struct.pack("=HHHHI", 0, 0xFFFF, 0, 0xFFFF, 0)
"""struct xt_tcp and struct xt_udp without a port."""

_RECENT_CHECK, _RECENT_SET, _RECENT_REAP = 1, 2, 1 << 5
_PORT_UNREACHABLE = {"icmp-port-unreachable": 3, "icmp6-port-unreachable": 4}
_STATES = {"INVALID": 1, "ESTABLISHED": 2, "RELATED": 4, "NEW": 8, "DNAT": 128}
_RANDOM_FULLY = 1 << 4


@lru_cache(maxsize=1024)
def ports(name: str, number: int) -> bytes:
    """A match on one destination port (0: any); the chunk types of struct xt_sctp_info are not used."""
    if name != "sctp":
        return struct.pack("=HHHHI", 0, 0xFFFF, number, number, 0) if number else ALL_PORTS
    dest_ports = 2 if number else 0
    info = struct.pack("=HHHH256sI", number, number, 0, 0, b"", 0) + b"\xff\0\0" * 4
    return info + struct.pack("=III", 0, dest_ports, 0)


def port(words: list[str]) -> int:
    """`--dport N`; 0 if there is none."""
    if not words or words[0] != "--dport":
        return 0
    number = int(words[1])
    del words[:2]
    return number


def comment(text: str) -> bytes:
    """struct xt_comment_info."""
    return text.encode().ljust(256, b"\0")


def address(text: str) -> bytes:
    """As `parse_address`, in a third of the time."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        return parse_address(text)


def _statistic(words: list[str]) -> bytes:
    """`--mode random --probability P`."""
    probability = words[3]
    del words[:4]
    return _chance(probability)


@lru_cache(maxsize=4096)
def _chance(probability: str) -> bytes:
    chance = round(float(probability) * 0x80000000)
    return struct.pack("=HHIIIQ", 0, 0, chance, 0, chance, 0)  # twice: the tool fills in the fields of mode nth too


def _recent(words: list[str]) -> bytes:
    """`--set` or `--rcheck --seconds N --reap`, then `--name NAME --mask MASK --rsource`."""
    setting = words[0] == "--set"
    check = _RECENT_SET if setting else _RECENT_CHECK | _RECENT_REAP
    seconds = 0 if setting else int(words[2])
    at = words.index("--name")
    mask = parse_address(words[at + 3]).ljust(16, b"\xff" if ":" in words[at + 3] else b"\0")
    info = struct.pack("=IIBB200sB1x", seconds, 0, check, 0, words[at + 1].encode(), 0) + mask
    del words[: at + 5]
    return info


def _address_type(words: list[str]) -> bytes:
    source = words[0] == "--src-type"
    del words[:2]
    local = 1 << 2
    return struct.pack("=HHI", local * source, local * (not source), 0)


def _conntrack(words: list[str]) -> bytes:
    """`[!] --ctstate STATES`: struct xt_conntrack_mtinfo3, of which only the state is used."""
    inverted = _negation(words)
    states = sum(_STATES[state] for state in words[1].split(","))
    del words[:2]
    return struct.pack("=146xHHHH10x", 1, inverted, states, 0)


def mark(words: list[str]) -> bytes:
    """`[!] --mark MARK/MASK`."""
    inverted = _negation(words)
    value, mask = (int(number, 0) for number in words[1].split("/"))
    del words[:2]
    return struct.pack("=IIB3x", value, mask, inverted)


def _negation(words: list[str]) -> bool:
    if words[0] != "!":
        return False
    del words[0]
    return True


MATCHES: dict[str, tuple[int, Callable[[list[str]], bytes]]] = {
    "statistic": (0, _statistic),
    "recent": (1, _recent),
    "addrtype": (1, _address_type),
    "conntrack": (3, _conntrack),
    "mark": (1, mark),
}
"""By name, the revision and the encoder of its data; protocols and comments are not included."""


@lru_cache(maxsize=64)
def rejection(kind: str) -> bytes:
    """`REJECT --reject-with KIND`."""
    return struct.pack("=I", _PORT_UNREACHABLE[kind])


_MAP_BOTH, _REST_OF_RANGE = struct.pack("=I", 3), bytes(8)
"""NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED."""


def destination(text: str) -> bytes:
    """struct nf_nat_range2 of one address and one port."""
    host, _, port = text.rpartition(":")
    end = address(host.strip("[]")).ljust(16, b"\0")
    number = int(port).to_bytes(2, "big")
    return _MAP_BOTH + end + end + number + number + _REST_OF_RANGE


def target(words: list[str], family: int) -> tuple[str, int, bytes] | None:
    """Name, revision and data of an extension; None for a verdict and a jump."""
    name = words[0]
    if name == "DNAT":
        return name, 2, destination(words[2])
    if name == "REJECT":
        return name, 0, rejection(words[2])
    if name == "MARK":
        value, mask = (int(number, 0) for number in words[2].split("/"))
        return name, 2, struct.pack("=II", value, mask)
    if name == "MASQUERADE":
        return name, 0, struct.pack("=II12x", 1, _RANDOM_FULLY) if family == 4 else struct.pack("=I36x", _RANDOM_FULLY)
    return None


def parts(
    words: list[str],
    header: Container[str],
    field: Callable[[str, str, bool], None],
    match: Callable[[str, list[str]], bytes],
) -> bytes:
    """The matches of a rule, encoded by `match` (name, words) in order; ValueError for an unsupported option.

    Those on the packet's `header` go to `field` (option, value, whether it is inverted).
    """
    found = b""
    inverted = False
    while words:
        word = words.pop(0)
        if word == "!":
            inverted = True
        elif word in header:
            field(word, words.pop(0), inverted)
            inverted = False
        elif word == "-m":
            found += match(words.pop(0), words)
        else:
            raise ValueError(f"unsupported option {word!r}")
    return found


def match(name: str, words: list[str]) -> tuple[str, int, bytes]:
    """Name, revision and data of an extension; ValueError for an unsupported one."""
    if name not in MATCHES:
        raise ValueError(f"unsupported match {name!r}")
    revision, encode = MATCHES[name]
    return name, revision, encode(words)
