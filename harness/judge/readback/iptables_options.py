"""Parses one rule of `iptables-save` into its options, whose order does not matter."""

from __future__ import annotations

import ipaddress
import re
import socket
from functools import cache

from harness.judge.behaviour import PROTOCOL_NUMBERS

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
_SAYS_NOTHING = {"-m": 1, "--comment": 1}
_FLAGS = frozenset(("--set", "--rcheck", "--rsource", "--reap", "--random-fully", "--physdev-is-in"))

Options = dict[str, str]
"""Options with their values, "" for a flag; a negated one is `! -s`."""


def options_of(line: str) -> Options:
    """`-A CHAIN -s 10.0.0.0/8 ... -j TARGET --option value` as its options; ValueError for a stray word."""
    words = iter(_WORD.findall(line) if '"' in line else line.split())
    found: Options = {}
    negation = ""
    try:
        next(words), next(words)
        for word in words:
            if word == "!":
                negation = "! "
            elif word in _SAYS_NOTHING:
                next(words)
            elif word in _FLAGS:
                found[negation + word] = negation = ""
            elif word == "--match-set":
                found[negation + word] = f"{next(words)} {next(words)}"
                negation = ""
            elif word[0] == "-":
                found[negation + word] = next(words)
                negation = ""
            else:
                raise ValueError(f"{word!r} is not an option in {line}")
    except StopIteration:
        raise ValueError(f"incomplete rule: {line}") from None
    return found


def normal(line: str) -> frozenset[tuple[str, str]]:
    """A normal form, equal for rules that the kernel treats as equal; the order of a list of states is ignored too."""
    return frozenset(
        (key, ",".join(sorted(value.split(","))) if key.endswith("--ctstate") else value)
        for key, value in options_of(line).items()
    )


def address_of(text: str) -> bytes:
    """The packed address, by the C library, as there are many."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        raise ValueError(f"{text!r} is not a valid address") from None


@cache
def network_of(text: str) -> tuple[bytes, bytes]:
    """The first and last address of a block, or a single address twice."""
    address, _, prefix = text.partition("/")
    if not prefix or prefix == ("128" if ":" in text else "32"):
        return (address_of(address),) * 2
    network = ipaddress.ip_network(text)
    return network.network_address.packed, network.broadcast_address.packed


def port_of(options: Options) -> tuple[int, int]:
    """Protocol and destination port."""
    return PROTOCOL_NUMBERS[options["-p"]], int(options["--dport"])
