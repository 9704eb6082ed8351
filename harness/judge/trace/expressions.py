"""The nftables expressions of a rule, evaluated for one packet in some state.

    value    := term {(& | ^ | "|") constant}
    concat   := value {. value} [map @NAME]

Evaluation of a rule stops (`Break`) if a lookup finds nothing or a comparison does not hold, as in the kernel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from harness.judge.behaviour import PROTOCOL_NUMBERS
from harness.judge.trace.ruleset import Element, Key, Range, Table, Value, value
from harness.log.events import JsonObject

_OPERATORS = {"&": int.__and__, "|": int.__or__, "^": int.__xor__}
_OPERATORS |= {"and": int.__and__, "or": int.__or__, "xor": int.__xor__}
_SYNONYMS = {"mark": ("meta", "mark"), "iifname": ("meta", "iifname"), "l4proto": ("meta", "l4proto")}


class Break(Exception):
    """The rule does not apply to this packet."""


class WordCursor:
    """A cursor over the words of one rule."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.at = 0

    def peek(self, ahead: int = 0) -> str | None:
        """A word ahead without consuming it, None after the last."""
        return self.words[self.at + ahead] if self.at + ahead < len(self.words) else None

    def take(self, *expected: str) -> str:
        """Take the next word, which must be one of `expected` if given."""
        word = self.peek()
        if word is None or (expected and word not in expected):
            raise ValueError(f"rule `{' '.join(self.words)}`: {' or '.join(expected) or 'a word'} expected at {word!r}")
        self.at += 1
        return word


class Expressions:
    """Evaluates against `fields` ({"ip daddr": packed, ...}); `draw(n)` gives each random number.

    `lookup(set name, key)` finds elements, and is called for every key.
    """

    def __init__(
        self, fields: JsonObject, draw: Callable[[int], int], lookup: Callable[[str, Key], Element | None]
    ) -> None:
        self.fields = fields
        self._draw = draw
        self._lookup = lookup

    def concat(self, cursor: WordCursor) -> Key:
        """A concatenation, mapped if a map follows; Break if the map does not contain the key."""
        parts = [self._value(cursor)]
        while cursor.peek() == ".":
            cursor.take()
            parts.append(self._value(cursor))
        key = tuple(parts)
        if cursor.peek() == "map":
            cursor.take()
            return self.found(cursor, key).data
        return key

    def found(self, cursor: WordCursor, key: Key) -> Element:
        """The element of the set named next; Break if there is none."""
        element = self._lookup(_reference(cursor), key)
        if element is None:
            raise Break
        return element

    def match(self, cursor: WordCursor) -> None:
        """One condition; Break unless it holds."""
        key = self.concat(cursor)
        negated = cursor.peek() == "!="
        if cursor.peek() in ("!=", "=="):
            cursor.take()
        if cursor.peek() == "@":
            holds = self._lookup(_reference(cursor), key) is not None
        else:
            holds = _equal(key[0], _constant(cursor.take()))
        if holds == negated:
            raise Break

    def _value(self, cursor: WordCursor) -> Value:
        result = self._term(cursor)
        while cursor.peek() in _OPERATORS:
            operator = _OPERATORS[cursor.take()]
            operand = _constant(cursor.take())
            result = _bitwise(operator, result, operand)
        return result

    def _hash(self, cursor: WordCursor) -> int:
        hashed = self._term(cursor)
        cursor.take("mod")
        modulus = int(cursor.take())
        cursor.take("seed")
        return _hashed(hashed, value(cursor.take())) % modulus

    def _term(self, cursor: WordCursor) -> Value:
        word = cursor.take()
        if word == "numgen":
            cursor.take("random")
            cursor.take("mod")
            return self._draw(int(cursor.take()))
        if word == "jhash":
            return self._hash(cursor)
        if word == "fib":
            name = f"fib {cursor.take('saddr', 'daddr')} {cursor.take('type')}"
        elif word in ("meta", "ct", "ip", "ip6", "th", "tcp", "udp", "sctp"):
            name = f"{word} {cursor.take()}"
        else:
            name = " ".join(_SYNONYMS.get(word, (word,)))
        if name.split()[0] in PROTOCOL_NUMBERS:
            name = f"th {name.split()[1]}"
        if name not in self.fields:
            if word[0].isdigit() or word == "none":
                return value(word)
            raise ValueError(f"rule `{' '.join(cursor.words)}`: the tracer does not support the field {name!r}")
        found = self.fields[name]
        if found is None:
            raise Break
        return found


def _hashed(value: bytes, seed: int) -> int:
    """A hash that differs from the kernel's, but is equal exactly for equal values too."""
    return int.from_bytes(hashlib.blake2b(value, digest_size=8, salt=seed.to_bytes(4, "big")).digest(), "big")


def _reference(cursor: WordCursor) -> str:
    cursor.take("@")
    return cursor.take()


def _constant(word: str) -> Value:
    return word if word in ("local", "new", "dnat") else value(word) if not word.isalpha() else _named(word)


def _named(word: str) -> Value:
    return value(word) if word in PROTOCOL_NUMBERS else word


def _bitwise(operator: Callable[[int, int], int], left: Value, right: Value) -> Value:
    if isinstance(left, bytes):
        size = len(left)
        return operator(int.from_bytes(left, "big"), int.from_bytes(right, "big")).to_bytes(size, "big")
    return operator(left, right)


def _equal(found: Value, wanted: Value) -> bool:
    if isinstance(wanted, Range):
        return bool(wanted.first <= found <= wanted.last)
    if isinstance(found, frozenset):
        return wanted in found
    if isinstance(wanted, str) and wanted.endswith("*"):
        return bool(found.startswith(wanted[:-1]))
    return bool(found == wanted)


def find(table: Table, name: str, key: Key) -> Element | None:
    """The element of a set that matches a key, ranges included."""
    if name not in table.sets:
        raise ValueError(f"there is no set {name!r}")
    elements = table.sets[name]
    if key in elements:
        return elements[key]
    if name in table.ranges:
        for stored, element in elements.items():
            if all(_equal(a, b) for a, b in zip(key, stored, strict=True)):
                return element
    return None
