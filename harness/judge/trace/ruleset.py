"""Parses nftables text, the input of `nft -f` or output of `nft list`, into rules and elements.

Supports the part of the language (nft(8)) that the proxy's tables use and refuses the rest.  A rule is kept
as a list of words, evaluated by `nftables`.  Values are packed addresses and plain numbers.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.judge.behaviour import PROTOCOL_NUMBERS

_WORD = re.compile(r'"[^"]*"|[{}();,@]|!=|==|[^\s{}();,"]+|\n')
_COMMENT = re.compile(r'("[^"\n]*")|#[^\n]*')
_DURATION = re.compile(r"(\d+)(d|h|m|s|ms)?")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001, None: 1}
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "srcnat": 100}

_NAMED = PROTOCOL_NUMBERS | {"none": 0}
"""nft prints priority 0:0 as `none`."""

Value = Any
"""A packed address, Range of addresses, number, or word, depending on the field."""
Key = tuple[Value, ...]


class Range(NamedTuple):
    """Consecutive values, both ends included."""

    first: bytes
    last: bytes


class Element(NamedTuple):
    """An element's text, and its data: () in a set, ("goto", chain) in a verdict map."""

    text: str
    data: Key


@dataclass
class Table:
    """One table: chains as lists of rules (each a list of words), named sets and maps as {key: Element}.

    `declared` is a set's declaration without its elements.
    """

    chains: dict[str, list[list[str]]] = field(default_factory=dict)
    hooks: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    sets: dict[str, dict[Key, Element]] = field(default_factory=dict)
    ranges: set[str] = field(default_factory=set)
    policies: dict[str, str] = field(default_factory=dict)
    declared: dict[str, list[list[str]]] = field(default_factory=dict)


class Ruleset:
    """Tables by (family word, name), built from any number of texts."""

    def __init__(self) -> None:
        self.tables: dict[tuple[str, str], Table] = {}

    def feed(self, text: str) -> None:
        """Apply one text in order; ValueError if it cannot be parsed."""
        words = _Words(_WORD.findall(_without_comments(text)))
        while (word := words.skip_newlines()) is not None:
            if word == "table":
                self._block(words)
            elif word in ("add", "delete"):
                self._command(word, words)
            else:
                raise ValueError(f"unsupported nft command {word!r}")

    def _command(self, verb: str, words: _Words) -> None:
        kind = words.next()
        key = words.next(), words.next()
        if kind == "table":
            if verb == "delete":
                self.tables.pop(key, None)
            else:
                self.tables.setdefault(key, Table())
        elif kind == "element":
            self._elements(self.tables[key], verb, words)
        elif kind == "chain" and verb == "delete":
            del self.tables[key].chains[words.next()]
        else:
            raise ValueError(f"unsupported nft command `{verb} {kind}`")

    def _elements(self, table: Table, verb: str, words: _Words) -> None:
        name = words.next()
        if name not in table.sets:
            raise ValueError(f"element of an unknown set {name!r}")
        for key, element in _elements(words):
            if verb == "delete":
                table.sets[name].pop(key, None)
            else:
                table.sets[name][key] = element

    def _block(self, words: _Words) -> None:
        table = self.tables.setdefault((words.next(), words.next()), Table())
        words.expect("{")
        while (word := words.skip_newlines()) not in ("}", None):
            if word == "chain":
                _chain(table, words)
            elif word in ("set", "map"):
                _set(table, words)
            elif word == "counter":
                while words.next() != "}":
                    pass
            elif word == "comment":
                words.line()
            else:
                raise ValueError(f"unsupported {word!r} in a table")


def _without_comments(text: str) -> str:
    """Newer versions of nft list handles, and the present size of a set, in comments."""
    return _COMMENT.sub(lambda found: found[1] or "", text) if "#" in text else text


def words_of(text: str) -> list[str]:
    """Splits a rule's text into the words kept in `Table`."""
    return _WORD.findall(text)


class _Words:
    """A cursor over the words of a text; line ends are separate words."""

    def __init__(self, words: list[str]) -> None:
        self._words = [*words, "\n"]
        self._at = 0

    def next(self) -> str:
        """The next word; ValueError at the end."""
        if self._at >= len(self._words):
            raise ValueError("the nftables text is truncated")
        self._at += 1
        return self._words[self._at - 1]

    def peek(self) -> str | None:
        """The next word without taking it."""
        return self._words[self._at] if self._at < len(self._words) else None

    def skip_newlines(self) -> str | None:
        """The next word other than a line end or `;`; None at the end."""
        while self.peek() in ("\n", ";"):
            self._at += 1
        return self.next() if self.peek() is not None else None

    def expect(self, word: str) -> None:
        """Consume exactly this word."""
        found = self.skip_newlines()
        if found != word:
            raise ValueError(f"{word!r} expected in the nftables text, found {found!r}")

    def line(self) -> list[str]:
        """Words up to the end of the line."""
        end = self._words.index("\n", self._at)
        whole = self._words[self._at : end]
        if whole.count("{") == whole.count("}"):
            self._at = end
            return whole
        words = []
        depth = 0
        while (word := self.peek()) is not None and not (word == "\n" and not depth):
            if word == "}" and not depth:
                break
            depth += (word == "{") - (word == "}")
            words.append(self.next())
        return [word for word in words if word != "\n"]


def _chain(table: Table, words: _Words) -> None:
    name = words.next()
    rules = table.chains.setdefault(name, [])
    words.expect("{")
    while (word := words.skip_newlines()) != "}":
        if word is None:
            raise ValueError(f"chain {name} is truncated")
        rule = [word, *words.line()]
        if rule[0] == "type":
            table.hooks[name] = _hook(rule)
            if "policy" in rule:
                table.policies[name] = rule[rule.index("policy") + 1]
        elif rule[0] != "comment":
            rules.append(rule)


def _hook(words: list[str]) -> tuple[str, str, int]:
    """(type, hook, priority) of `type nat hook prerouting priority dstnat - 10; policy accept;`."""
    priority = words[words.index("priority") + 1 :]
    priority = priority[: priority.index(";")] if ";" in priority else priority
    number = _PRIORITIES.get(priority[0])
    number = int(priority[0]) if number is None else number
    if len(priority) == 3:
        number += int(priority[2]) * (-1 if priority[1] == "-" else 1)
    return words[1], words[3], number


def _set(table: Table, words: _Words) -> None:
    name = words.next()
    elements = table.sets.setdefault(name, {})
    words.expect("{")
    while (word := words.skip_newlines()) != "}":
        if word is None:
            raise ValueError(f"set {name} is truncated")
        if word == "elements":
            words.expect("=")
            elements.update(_elements(words))
        else:
            declared = [word, *words.line()]
            table.declared.setdefault(name, []).append(declared)
            if word == "flags" and "interval" in declared:
                table.ranges.add(name)


def _elements(words: _Words) -> list[tuple[Key, Element]]:
    """Elements between braces: `{ KEY [timeout T ...] [: DATA], ... }`."""
    words.expect("{")
    found: list[tuple[Key, Element]] = []
    pending: list[str] = []
    while True:
        word = words.next()
        if word in (",", "}"):
            if pending:
                found.append(_element(pending))
            pending = []
            if word == "}":
                return found
        elif word != "\n":
            pending.append(word)


def _element(words: list[str]) -> tuple[Key, Element]:
    text = " ".join(words)
    head, _, data = text.partition(" : ")
    head = re.sub(r" (timeout|expires) \S+", "", head)
    return tuple(value(part) for part in head.split(" . ")), Element(text, _data(data))


def _data(text: str) -> tuple[Any, ...]:
    if not text:
        return ()
    verdict, _, chain = text.partition(" ")
    if verdict in ("goto", "jump"):
        return verdict, chain
    return tuple(value(part) for part in text.split(" . "))


@functools.lru_cache(1 << 16)
def value(text: str) -> Value:
    """A constant: packed address, Range of addresses, or number (`3:1` is 0x30001)."""
    if text in _NAMED:
        return _NAMED[text]
    if text.isdigit():
        return int(text)
    if text.startswith("0x"):
        return int(text, 16)
    if text.startswith('"'):
        return text.strip('"')
    if re.fullmatch(r"[0-9a-f]{1,4}:[0-9a-f]{1,4}", text):
        major, minor = text.split(":")
        return int(major, 16) << 16 | int(minor, 16)
    if "/" in text:
        network = ipaddress.ip_network(text, strict=False)
        return Range(network.network_address.packed, network.broadcast_address.packed)
    if "-" in text:
        first, last = text.split("-")
        return Range(ipaddress.ip_address(first).packed, ipaddress.ip_address(last).packed)
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        raise ValueError(f"unsupported value {text!r}") from None


def duration_seconds(text: str) -> float:
    """Converts `3h`, `1m30s`, `600s` to seconds."""
    return sum(int(number) * _SECONDS[unit or None] for number, unit in _DURATION.findall(text))
