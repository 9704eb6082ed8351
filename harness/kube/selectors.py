"""Label and field selectors: parsed once, frozen, hashable; pure.

Labels: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, `a>1`, `a<1`, joined by commas.
Fields: `metadata.name=x`, `status.phase!=Running`.  As in Kubernetes, `!=` and `notin` also match what
does not have the label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_SET = re.compile(r"(?P<key>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)")
_COMPARE = re.compile(r"(?P<key>[^\s=!<>,()]+)\s*(?P<op>==|=|!=|>|<)\s*(?P<value>[^\s=!<>,()]*)")
_EXISTS = re.compile(r"(?P<not>!?)\s*(?P<key>[^\s=!<>,()]+)")
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class Requirement(NamedTuple):
    """One term: `operator` is in, notin, exists, !, gt or lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, values: Mapping[str, str]) -> bool:
        """Whether these labels (or fields) satisfy the term."""
        value = values.get(self.key)
        match self.operator:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        return value is not None and _compare(self.operator, value, self.values[0])


class Selector(NamedTuple):
    """All terms must hold; none means everything."""

    terms: tuple[Requirement, ...] = ()

    def matches(self, values: Mapping[str, str]) -> bool:
        """Whether these labels (or fields) satisfy every term."""
        return all(term.matches(values) for term in self.terms)

    def exactly(self, key: str) -> str | None:
        """The only value that `key` may have, None if the selector does not determine one."""
        for term in self.terms:
            if term.key == key and term.operator == "in" and len(term.values) == 1:
                return term.values[0]
        return None


EVERYTHING = Selector()


def parse_labels(text: str) -> Selector:
    """Parse a label selector; ValueError names the invalid term."""
    return Selector(tuple(_label(part) for part in _split(text)))


def parse_fields(text: str, known: tuple[str, ...]) -> Selector:
    """Parse a field selector over the `known` fields; ValueError names an unknown field or invalid term."""
    return Selector(tuple(_field(part, known) for part in _split(text)))


def _label(text: str) -> Requirement:
    if found := _SET.fullmatch(text):
        values = tuple(sorted({value.strip() for value in found["values"].split(",")}))
        requirement = Requirement(found["key"], found["op"], values)
    elif found := _COMPARE.fullmatch(text):
        operator = {"=": "in", "==": "in", "!=": "notin", ">": "gt", "<": "lt"}[found["op"]]
        requirement = Requirement(found["key"], operator, (found["value"],))
    elif found := _EXISTS.fullmatch(text):
        requirement = Requirement(found["key"], "!" if found["not"] else "exists")
    else:
        raise ValueError(f"unable to parse requirement: {text!r} is not a term such as a=b, a in (b,c), a or !a")
    _check(requirement)
    return requirement


def _check(requirement: Requirement) -> None:
    if not _KEY.fullmatch(requirement.key):
        raise ValueError(f"unable to parse requirement: {requirement.key!r} is not a label key")
    for value in requirement.values:
        if not _VALUE.fullmatch(value):
            raise ValueError(f"unable to parse requirement: {value!r} is not a label value")
        if requirement.operator in ("gt", "lt") and not re.fullmatch(r"-?\d+", value):
            raise ValueError(f"unable to parse requirement: {value!r} must be an integer for > and <")


def _field(text: str, known: tuple[str, ...]) -> Requirement:
    found = re.fullmatch(r"(?P<key>[^=!]+)(?P<op>==|=|!=)(?P<value>.*)", text)
    if not found:
        raise ValueError(f"invalid selector: {text!r}; can't understand it")
    if found["key"] not in known:
        raise ValueError(f"field label not supported: {found['key']}")
    return Requirement(found["key"], "notin" if found["op"] == "!=" else "in", (found["value"],))


def _split(text: str) -> list[str]:
    """The parts between commas outside parentheses, with blanks trimmed; none for an empty text."""
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", text)]
    return [] if parts == [""] else parts


def _compare(operator: str, value: str, bound: str) -> bool:
    try:
        number = int(value)
    except ValueError:
        return False
    return number > int(bound) if operator == "gt" else number < int(bound)
