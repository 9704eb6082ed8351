"""Rules in the words of `iptables-save`: read once, then matched against one packet of a new connection.

Knows the matches that proxies write; anything else is an error, so that no rule is skipped in silence.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Callable
from typing import NamedTuple

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_IGNORED_MODULES = {"comment", "set", "addrtype", "physdev", "mark", "conntrack", "ipvs", "tcp", "udp", "sctp"}


class Header(NamedTuple):
    """What rules look at. `virtual` is the virtual server (address, protocol, port) that took the packet."""

    source: bytes
    destination: bytes
    protocol: int
    port: int
    interface: str
    mark: int
    source_local: bool
    destination_local: bool
    virtual: tuple[bytes, int, int] | None = None


InSet = Callable[[str, str, Header], bool]
"""Whether a set (name, directions such as `dst,dst,src`) holds the packet."""

Match = Callable[[Header, InSet], bool]


class Rule(NamedTuple):
    """One `-A` line. `argument` is the target's own option, such as a mark's value/mask."""

    text: str
    matches: tuple[Match, ...]
    target: str
    argument: str

    def holds(self, header: Header, in_set: InSet) -> bool:
        """Whether every match does."""
        return all(match(header, in_set) for match in self.matches)


def read_rule(text: str) -> Rule:
    """A rule from its line; ValueError for an option that is not known."""
    words = shlex.split(text)[2:]
    matches: list[Match] = []
    target = argument = ""
    negated = False
    while words:
        word = words.pop(0)
        if word == "!":
            negated = True
            continue
        if word == "-m":
            _module(words.pop(0), text)
        elif word == "--comment":
            words.pop(0)
        elif word == "-j":
            target, argument = words[0], " ".join(words[1:])
            words.clear()
        else:
            matches.append(_match(word, words, negated, text))
            negated = False
    return Rule(text, tuple(matches), target, argument)


def _module(name: str, text: str) -> None:
    if name not in _IGNORED_MODULES:
        raise ValueError(f"iptables match {name!r} is not known: {text}")


def _match(option: str, words: list[str], negated: bool, text: str) -> Match:
    if option not in _MATCHES:
        raise ValueError(f"iptables option {option!r} is not known: {text}")
    arity, make = _MATCHES[option]
    holds = make(*(words.pop(0) for _ in range(arity)))
    return (lambda header, in_set: not holds(header, in_set)) if negated else holds


def _network(text: str, field: str) -> Match:
    network = ipaddress.ip_network(text)
    return lambda header, _: ipaddress.ip_address(getattr(header, field)) in network


def _interface(name: str) -> Match:
    if name.endswith("+"):
        return lambda header, _: bool(header.interface) and header.interface.startswith(name[:-1])
    return lambda header, _: header.interface == name


def _local(kind: str, field: str) -> Match:
    if kind != "LOCAL":
        raise ValueError(f"address type {kind} is not known")
    return lambda header, _: getattr(header, field)


def _mark(text: str) -> Match:
    value, _, mask = text.partition("/")
    return lambda header, _: header.mark & int(mask or "0xffffffff", 0) == int(value, 0)


def _virtual(field: int, value) -> Match:
    return lambda header, _: header.virtual is not None and header.virtual[field] == value


_MATCHES: dict[str, tuple[int, Callable[..., Match]]] = {
    "-s": (1, lambda text: _network(text, "source")),
    "-d": (1, lambda text: _network(text, "destination")),
    "-p": (1, lambda name: lambda header, _: header.protocol == PROTOCOLS.get(name)),
    "-i": (1, _interface),
    "--match-set": (2, lambda name, directions: lambda header, in_set: in_set(name, directions, header)),
    "--dst-type": (1, lambda kind: _local(kind, "destination_local")),
    "--src-type": (1, lambda kind: _local(kind, "source_local")),
    "--physdev-is-in": (0, lambda: lambda header, _: False),  # no bridge is traced
    "--mark": (1, _mark),
    "--ctstate": (1, lambda states: lambda header, _: "NEW" in states.split(",")),
    "--vaddr": (1, lambda text: _virtual(0, ipaddress.ip_network(text).network_address.packed)),
    "--vproto": (1, lambda text: _virtual(1, int(text))),
    "--vport": (1, lambda text: _virtual(2, int(text))),
}


def marked(header: Header, argument: str) -> Header:
    """The packet after `-j MARK` with that argument."""
    option, text = argument.split()
    value, _, mask = text.partition("/")
    number = int(value, 0)
    if option == "--set-xmark":
        return header._replace(mark=header.mark & ~int(mask or "0xffffffff", 0) ^ number)
    if option == "--or-mark":
        return header._replace(mark=header.mark | number)
    if option == "--xor-mark":
        return header._replace(mark=header.mark ^ number)
    raise ValueError(f"MARK option {option} is not known")
