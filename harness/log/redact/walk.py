"""Walks a manifest along its schema: listed fields are mapped, all others are dropped.

Types are not trusted: text in place of a number is mapped, an object or a list in place of text becomes empty, so
invalid input stays invalid and reveals nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from harness.log.redact.schema import ANNOTATIONS, KEPT_VALUES, KEY, LABELS, NAME, TIME, TIME_KEYS, MappingKind

PLAIN_VALUES = frozenset({"", "true", "false"})


class Mapper(Protocol):
    """Handles each text, and each dropped value."""

    def text(self, kind: MappingKind, text: str) -> str:
        """The replacement of a text."""

    def dropped(self, path: str) -> None:
        """A value at this path is dropped."""


def walk(schema: Any, value: Any, mapper: Mapper, path: str) -> Any:
    """`value` mapped by the schema: an object, a list of one element's schema, a kind, or an enum's values."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _text(schema, value, mapper)
    if schema is LABELS or schema is ANNOTATIONS:
        return _pairs(value, mapper, path)
    if isinstance(value, dict):
        return _fields(schema if isinstance(schema, dict) else {}, value, mapper, path)
    if isinstance(schema, list):
        (element,) = schema
        return [walk(element, item, mapper, path) for item in value]
    mapper.dropped(path)
    return []


def _fields(schema: Mapping[str, Any], value: dict[str, Any], mapper: Mapper, path: str) -> dict[str, Any]:
    kept = {}
    for name, field in value.items():
        here = f"{path}.{name}"
        if name in schema:
            kept[name] = walk(schema[name], field, mapper, here)
        else:
            mapper.dropped(here)
    return kept


def _text(schema: Any, text: str, mapper: Mapper) -> str:
    if isinstance(schema, frozenset):
        return text if text in schema or not text else mapper.text(NAME, text)
    return mapper.text(schema if isinstance(schema, MappingKind) else NAME, text)


def _pairs(value: Any, mapper: Mapper, path: str) -> Any:
    """Labels or annotations: every key and value, except those with a defined meaning."""
    if not isinstance(value, dict):
        mapper.dropped(path)
        return []
    return {mapper.text(KEY, key): _pair_value(key, text, mapper, path) for key, text in value.items()}


def _pair_value(key: str, value: Any, mapper: Mapper, path: str) -> Any:
    if not isinstance(value, str):
        return walk(NAME, value, mapper, path)
    if value in PLAIN_VALUES or value in KEPT_VALUES.get(key, ()):
        return value
    return mapper.text(TIME if key in TIME_KEYS else NAME, value)
