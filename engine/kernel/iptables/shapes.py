"""Splits a rule into what many rules share, its shape, and what is its own, so that a shape is encoded only once; pure.

    rule   -s 10.0.0.1/32 -m comment --comment "shop/web" -j KUBE-MARK-MASQ
    own       10.0.0.1                           shop/web    KUBE-MARK-MASQ

A shape is encoded as a rule with placeholders; the bytes around these are its frame.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from engine.kernel.iptables import xt

CHAIN = "KUBE-"
"""The beginning of every chain's name that a rule may jump to."""

_ALL_BITS = {4: "32 ", 6: "128 "}
_SOURCE = {4: "245.167.195.233", 6: "f5a7:c3e9::1"}
_DESTINATION = {4: "245.167.195.234", 6: "f5a7:c3e9::2"}
_END = {4: "245.167.195.235:50085", 6: "[f5a7:c3e9::3]:50085"}
"""Placeholders: reserved addresses, which no rule has."""
_COMMENT = "\1" * 256
_DNAT = "--to-destination"

Frame = tuple[bytes, bytes, bytes, bytes, bytes]
"""Before, between and after a source, a destination, a comment and a target; nothing before an absent one."""


class Shapes:
    """Encodes rules by shape; `by_word` (rule, family) does so word by word, with a jump's chain or without."""

    def __init__(self, by_word: Callable[[str, int], bytes], with_chains: bool) -> None:
        self._by_word, self._with_chains = by_word, with_chains
        self._frame = lru_cache(maxsize=4096)(self._framed)

    def encode(self, rule: str, family: int) -> tuple[bytes, str]:
        """A rule with a target, and the chain it jumps to, or ""; ValueError for an unsupported option."""
        source = destination = comment = target = b""
        middle = tail = chain = ""
        head, _, last = rule.rpartition(" ")
        sourced = head.startswith("-s ")
        if sourced:
            address, _, head = head[3:].partition("/")
            source = xt.address(address)
        if '"' in head:
            head, text, tail = head.split('"')
            comment = xt.comment(text)
            if head.startswith("-d ") or " -d " in head:
                head, _, middle = head.partition("-d ")
                address, _, middle = middle.partition("/")
                destination = xt.address(address)
        if last.startswith(CHAIN):
            chain, last = last, CHAIN.ljust(len(last), "\1")
            if self._with_chains:
                target = chain.encode()
        elif (tail or head).endswith(_DNAT):
            target, last = xt.destination(last), _END[family]
        frame = self._frame(family, sourced, head, middle, tail, last)
        if not frame:
            return self._by_word(rule, family), chain
        first, second, third, fourth, fifth = frame
        return b"".join((first, source, second, destination, third, comment, fourth, target, fifth)), chain

    def _framed(self, family: int, sourced: bool, head: str, middle: str, tail: str, last: str) -> Frame | None:
        """The frame of a shape; None if it has an address with a prefix that is not a whole one."""
        bits = _ALL_BITS[family]
        if (sourced and not head.startswith(bits)) or (middle and not middle.startswith(bits)):
            return None
        rule = f"-s {_SOURCE[family]}/{head}" if sourced else head
        rule += f"-d {_DESTINATION[family]}/{middle}" if middle else ""
        rule += f'"{_COMMENT}"{tail}' if tail else ""
        rest = self._by_word(f"{rule} {last}", family)
        found = []
        target = xt.destination(last) if last == _END[family] else last.encode()
        for own in (xt.address(_SOURCE[family]), xt.address(_DESTINATION[family]), xt.comment(_COMMENT), target):
            before, there, after = rest.partition(own)
            found.append(before if there else b"")
            rest = after if there else rest
        return found[0], found[1], found[2], found[3], rest
