"""Reference-counted claims: items that several Services may need, each kept as long as one of them does."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, Generic, TypeVar

from engine.model import Name

Key = TypeVar("Key", bound=tuple[Any, ...])
"""The item claimed; keys may differ in length and kind, as long as they can be sorted together."""
Value = TypeVar("Value")
Owner = tuple[Any, ...]
"""The Service, followed by values that distinguish its claims."""
Wanted = dict[tuple[Key, Owner], Value]
Claimants = tuple[tuple[Owner, Value], ...]
"""Nearly always one: a tuple takes half the memory of a dict."""


class Claims(Generic[Key, Value]):
    """For each key the value of its smallest owner, which does not depend on the history."""

    def __init__(self) -> None:
        self._claims: dict[Key, Claimants[Value]] = {}
        self._wanted: dict[Name, Wanted[Key, Value]] = {}
        self._before: dict[Key, Value | None] = {}

    def replace(self, service: Name, wanted: Wanted[Key, Value]) -> None:
        """Replace all claims of a Service."""
        claims, old = self._claims, self._wanted.pop(service, None)
        if wanted:
            self._wanted[service] = wanted
        for key, owner in old.keys() - wanted.keys() if old else ():
            claims[key] = self._others(key, owner)
        for claim, value in wanted.items():
            if old and claim in old and old[claim] == value:
                continue
            key, owner = claim
            if key in claims:
                claims[key] = (*self._others(key, owner), (owner, value))
            else:
                self._before[key] = None
                claims[key] = ((owner, value),)

    def _others(self, key: Key, owner: Owner) -> Claimants[Value]:
        """The claims of a key that is about to change, without those of one owner."""
        claims = self._claims[key]
        if key not in self._before:
            self._before[key] = _effective(claims)
        return tuple([claim for claim in claims if claim[0] != owner])

    def settle(self) -> Iterator[tuple[Key, Value | None, Value | None]]:
        """(key, old value, new value) of each key changed since the last call, sorted; None means absent."""
        touched, self._before = self._before, {}
        for key in sorted(touched):
            before, claims = touched[key], self._claims[key]
            if len(claims) == 1:
                now: Value | None = claims[0][1]
            else:
                now = _effective(claims)
                if not claims:
                    del self._claims[key]
            if before != now:
                yield key, before, now


def _effective(claims: Claimants[Value]) -> Value | None:
    """The value of the smallest owner; None without one."""
    return min(claims, key=itemgetter(0))[1] if claims else None
