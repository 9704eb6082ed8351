"""Rules in the syntax of `iptables-save`: parsed once, then matched against one packet of a new connection.

Supports the matches that proxies write; anything else is an error, so that no rule is silently skipped.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Callable
from typing import NamedTuple

from harness.judge.behaviour import PROTOCOL_NUMBERS

_MODULES = {
    "comment", "set", "addrtype", "physdev", "mark", "conntrack", "ipvs", "tcp", "udp", "sctp",
    "nfacct", "recent", "statistic",
}  # fmt: skip


class PacketHeader(NamedTuple):
    """The fields that rules match.  `virtual` is the virtual server (address, protocol, port) that accepted the packet.

    `translated`: its destination is no longer the one that the client used.
    """

    source: bytes
    destination: bytes
    protocol: int
    port: int
    interface: str
    mark: int
    source_local: bool
    destination_local: bool
    virtual: tuple[bytes, int, int] | None = None
    translated: bool = False


def _absent(*_: object) -> bool:
    raise ValueError("a rule needs a feature that its mode does not have")


class MatchState(NamedTuple):
    """Functions for matches on state beyond the packet; a mode may lack some.

    `in_set`: whether a set (name, directions such as `dst,dst,src`) contains the packet.  `drawn`: whether a
    random match succeeds this time.  `seen`: whether a list of clients (`recent`) has recorded an address within
    the given seconds; `None` seconds records it and matches.
    """

    in_set: Callable[[str, str, PacketHeader], bool] = _absent
    drawn: Callable[[], bool] = _absent
    seen: Callable[[str, bytes, int | None], bool] = _absent


Match = Callable[[PacketHeader, MatchState], bool]


class Rule(NamedTuple):
    """One `-A` line.  `argument` is the target's own option, such as a mark's value/mask."""

    text: str
    matches: tuple[Match, ...]
    target: str
    argument: str

    def holds(self, header: PacketHeader, around: MatchState) -> bool:
        """Whether every match applies."""
        return all(match(header, around) for match in self.matches)


def read_rule(text: str) -> Rule:
    """Parses a rule's line; ValueError for an unknown option."""
    words = shlex.split(text)[2:]
    matches: list[Match] = []
    recent: dict[str, str] = {}
    target = argument = ""
    negated = False
    while words:
        word = words.pop(0)
        if word == "!":
            negated = True
            continue
        if word == "-m":
            _module(words.pop(0), text)
        elif word == "-j":
            target, argument = words[0], " ".join(words[1:])
            words.clear()
        elif word in _WITHOUT_MEANING:
            del words[: _WITHOUT_MEANING[word]]
        elif word in _RECENT:
            recent[word] = words.pop(0) if _RECENT[word] else ""
        else:
            matches.append(_match(word, words, negated, text))
            negated = False
    if recent:
        matches.append(_recent(recent, text))
    return Rule(text, tuple(matches), target, argument)


def _module(name: str, text: str) -> None:
    if name not in _MODULES:
        raise ValueError(f"iptables match {name!r} is not known: {text}")


def _match(option: str, words: list[str], negated: bool, text: str) -> Match:
    if option not in _MATCHES:
        raise ValueError(f"iptables option {option!r} is not known: {text}")
    arity, make = _MATCHES[option]
    holds = make(*(words.pop(0) for _ in range(arity)))
    return (lambda header, around: not holds(header, around)) if negated else holds


def _recent(options: dict[str, str], text: str) -> Match:
    """A lookup in a list of clients, or a record in it; its options come in any order."""
    name = options.get("--name", "DEFAULT")
    if "--set" in options:
        return lambda header, around: around.seen(name, header.source, None)
    if "--rcheck" not in options or "--seconds" not in options:
        raise ValueError(f"iptables match recent: only --set, and --rcheck with --seconds, are known: {text}")
    seconds = int(options["--seconds"])
    return lambda header, around: around.seen(name, header.source, seconds)


def _network(text: str, field: str) -> Match:
    network = ipaddress.ip_network(text)
    size, shift = len(network.network_address.packed), network.max_prefixlen - network.prefixlen
    wanted = int(network.network_address) >> shift

    def holds(header: PacketHeader, _: MatchState) -> bool:
        address = getattr(header, field)
        return len(address) == size and int.from_bytes(address) >> shift == wanted

    return holds


def _interface(name: str) -> Match:
    if name.endswith("+"):
        return lambda header, _: bool(header.interface) and header.interface.startswith(name[:-1])
    return lambda header, _: header.interface == name


def _local(kind: str, field: str) -> Match:
    if kind != "LOCAL":
        raise ValueError(f"address type {kind} is not known")
    return lambda header, _: getattr(header, field)


def _mark(text: str) -> Match:
    value, mask = _value_and_mask(text)
    return lambda header, _: header.mark & mask == value


def _value_and_mask(text: str) -> tuple[int, int]:
    value, _, mask = text.partition("/")
    return int(value, 0), int(mask or "0xffffffff", 0)


def _port(text: str) -> Match:
    number = int(text)
    return lambda header, _: header.port == number


def _protocol(name: str) -> Match:
    number = PROTOCOL_NUMBERS.get(name)
    return lambda header, _: header.protocol == number


def _states(text: str) -> Match:
    """Every traced packet is `NEW`; it is `DNAT` if its destination was translated."""
    states = set(text.split(","))
    return lambda header, _: "NEW" in states or ("DNAT" in states and header.translated)


def _random(mode: str) -> Match:
    if mode != "random":
        raise ValueError(f"statistic mode {mode} is not known")
    return lambda _, around: around.drawn()


def _virtual(field: int, value: bytes | int | None) -> Match:
    return lambda header, _: header.virtual is not None and header.virtual[field] == value


_WITHOUT_MEANING = {"--comment": 1, "--probability": 1, "--nfacct-name": 1}
"""Skips words without effect here: the probability of a draw does not change its possible results."""

_RECENT = {
    "--name": True, "--seconds": True, "--mask": True,
    "--set": False, "--rcheck": False, "--reap": False, "--rsource": False,
}  # fmt: skip
"""Options of `recent`, and whether a value follows."""

_MATCHES: dict[str, tuple[int, Callable[..., Match]]] = {
    "-s": (1, lambda text: _network(text, "source")),
    "-d": (1, lambda text: _network(text, "destination")),
    "-p": (1, _protocol),
    "-i": (1, _interface),
    "--dport": (1, _port),
    "--match-set": (2, lambda name, directions: lambda header, around: around.in_set(name, directions, header)),
    "--dst-type": (1, lambda kind: _local(kind, "destination_local")),
    "--src-type": (1, lambda kind: _local(kind, "source_local")),
    "--physdev-is-in": (0, lambda: lambda header, _: False),  # bridges are not traced
    "--mark": (1, _mark),
    "--ctstate": (1, _states),
    "--mode": (1, _random),
    "--vaddr": (1, lambda text: _virtual(0, ipaddress.ip_network(text).network_address.packed)),
    "--vproto": (1, lambda text: _virtual(1, int(text))),
    "--vport": (1, lambda text: _virtual(2, int(text))),
}


def marked(header: PacketHeader, argument: str) -> PacketHeader:
    """The packet after `-j MARK` with that argument."""
    option, text = argument.split()
    number, mask = _value_and_mask(text)
    if option == "--set-xmark":
        return header._replace(mark=header.mark & ~mask ^ number)
    if option == "--or-mark":
        return header._replace(mark=header.mark | number)
    if option == "--xor-mark":
        return header._replace(mark=header.mark ^ number)
    raise ValueError(f"MARK option {option} is not known")
