"""Reference-counted claims: items that several Services may need, each kept as long as one of them does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from engine.model import Name

Key = TypeVar("Key", bound=tuple[Any, ...])
"""The item claimed; keys may differ in length and kind, as long as they can be sorted together."""
Value = TypeVar("Value")
Owner = tuple[Any, ...]
"""The Service, followed by values that distinguish its claims."""
Wanted = dict[tuple[Key, Owner], Value]


class Claims(Generic[Key, Value]):
    """For each key the value of its smallest owner, which does not depend on the history."""

    def __init__(self) -> None:
        self._claims: dict[Key, dict[Owner, Value]] = {}
        self._wanted: dict[Name, Wanted[Key, Value]] = {}
        self._before: dict[Key, Value | None] = {}

    def replace(self, service: Name, wanted: Wanted[Key, Value]) -> None:
        """Replace all claims of a Service."""
        old = self._wanted.pop(service, {})
        if wanted:
            self._wanted[service] = wanted
        for claim in old.keys() - wanted.keys() if old else ():
            claims = self._touch(claim[0])
            del claims[claim[1]]
        for claim, value in wanted.items():
            if not old or claim not in old or old[claim] != value:
                self._touch(claim[0])[claim[1]] = value

    def _touch(self, key: Key) -> dict[Owner, Value]:
        claims = self._claims.setdefault(key, {})
        if key not in self._before:
            self._before[key] = _effective(claims)
        return claims

    def settle(self) -> Iterator[tuple[Key, Value | None, Value | None]]:
        """(key, value before, value now) of each key changed since the last call, sorted; None means absent."""
        touched, self._before = self._before, {}
        for key in sorted(touched):
            before, claims = touched[key], self._claims[key]
            now = _effective(claims)
            if not claims:
                del self._claims[key]
            if before != now:
                yield key, before, now


def _effective(claims: dict[Owner, Value]) -> Value | None:
    """The value of the smallest owner; None without one."""
    return claims[min(claims) if len(claims) > 1 else next(iter(claims))] if claims else None
