"""The nftables expressions of a rule, evaluated for one packet in some state.

    value    := term {(& | ^ | "|") constant}
    concat   := value {. value} [map @NAME]

A rule breaks off (`Break`) where a lookup finds nothing or a comparison does not hold, as in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.trace.ruleset import PROTOCOLS, Element, Range, Table, value

_OPERATORS = {"&": int.__and__, "|": int.__or__, "^": int.__xor__}
_OPERATORS |= {"and": int.__and__, "or": int.__or__, "xor": int.__xor__}
_SYNONYMS = {"mark": ("meta", "mark"), "iifname": ("meta", "iifname"), "l4proto": ("meta", "l4proto")}


class Break(Exception):
    """The rule does not apply to this packet."""


class Cursor:
    """The words of one rule, taken one by one."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.at = 0

    def peek(self, ahead: int = 0) -> str | None:
        """A word to come, None behind the last."""
        return self.words[self.at + ahead] if self.at + ahead < len(self.words) else None

    def take(self, *expected: str) -> str:
        """The next word, which must be one of `expected` where any is given."""
        word = self.peek()
        if word is None or (expected and word not in expected):
            raise ValueError(f"rule `{' '.join(self.words)}`: {' or '.join(expected) or 'a word'} expected at {word!r}")
        self.at += 1
        return word


class Expressions:
    """Evaluates against `fields` ({"ip daddr": packed, ...}); `draw(n)` gives each random number.

    `lookup(set name, key)` finds elements, and is told every key that is looked up.
    """

    def __init__(self, fields: dict, draw: Callable[[int], int], lookup: Callable) -> None:
        self.fields = fields
        self._draw = draw
        self._lookup = lookup

    def concat(self, cursor: Cursor) -> tuple:
        """A concatenation, put through a map where one follows; Break when the map has no such key."""
        parts = [self._value(cursor)]
        while cursor.peek() == ".":
            cursor.take()
            parts.append(self._value(cursor))
        key = tuple(parts)
        if cursor.peek() == "map":
            cursor.take()
            return self.found(cursor, key).data
        return key

    def found(self, cursor: Cursor, key: tuple) -> Element:
        """The element of the set named next; Break when there is none."""
        element = self._lookup(_reference(cursor), key)
        if element is None:
            raise Break
        return element

    def match(self, cursor: Cursor) -> None:
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

    def _value(self, cursor: Cursor):
        result = self._term(cursor)
        while cursor.peek() in _OPERATORS:
            operator = _OPERATORS[cursor.take()]
            operand = _constant(cursor.take())
            result = _bitwise(operator, result, operand)
        return result

    def _term(self, cursor: Cursor):
        word = cursor.take()
        if word == "numgen":
            cursor.take("random")
            cursor.take("mod")
            return self._draw(int(cursor.take()))
        if word == "fib":
            name = f"fib {cursor.take('saddr', 'daddr')} {cursor.take('type')}"
        elif word in ("meta", "ct", "ip", "ip6", "th", "tcp", "udp", "sctp"):
            name = f"{word} {cursor.take()}"
        else:
            name = " ".join(_SYNONYMS.get(word, (word,)))
        if name.split()[0] in PROTOCOLS:
            name = f"th {name.split()[1]}"
        if name not in self.fields:
            if word[0].isdigit() or word == "none":
                return value(word)
            raise ValueError(f"rule `{' '.join(cursor.words)}`: {name!r} is nothing this tracer knows of a packet")
        found = self.fields[name]
        if found is None:
            raise Break
        return found


def _reference(cursor: Cursor) -> str:
    cursor.take("@")
    return cursor.take()


def _constant(word: str):
    return word if word in ("local", "new", "dnat") else value(word) if not word.isalpha() else _named(word)


def _named(word: str):
    return value(word) if word in PROTOCOLS else word


def _bitwise(operator, left, right):
    if isinstance(left, bytes):
        size = len(left)
        return operator(int.from_bytes(left, "big"), int.from_bytes(right, "big")).to_bytes(size, "big")
    return operator(left, right)


def _equal(found, wanted) -> bool:
    if isinstance(wanted, Range):
        return wanted.first <= found <= wanted.last
    if isinstance(found, frozenset):
        return wanted in found
    if isinstance(wanted, str) and wanted.endswith("*"):
        return found.startswith(wanted[:-1])
    return found == wanted


def find(table: Table, name: str, key: tuple) -> Element | None:
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
