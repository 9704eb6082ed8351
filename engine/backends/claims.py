"""Who wants what: things several Services may ask for, each there as long as one of them does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.model import Name

Key = tuple
Owner = tuple
Wanted = dict[tuple[Key, Owner], Any]


class Claims:
    """For each key the value of its smallest owner; which that is does not depend on the history."""

    def __init__(self) -> None:
        self._claims: dict[Key, dict[Owner, Any]] = {}
        self._wanted: dict[Name, Wanted] = {}
        self._before: dict[Key, Any] = {}

    def replace(self, service: Name, wanted: Wanted) -> None:
        """A Service now wants this and nothing else."""
        old = self._wanted.pop(service, {})
        if wanted:
            self._wanted[service] = wanted
        for claim in old.keys() - wanted.keys() if old else ():
            claims = self._touch(claim[0])
            del claims[claim[1]]
        for claim, value in wanted.items():
            if not old or claim not in old or old[claim] != value:
                self._touch(claim[0])[claim[1]] = value

    def _touch(self, key: Key) -> dict[Owner, Any]:
        claims = self._claims.setdefault(key, {})
        if key not in self._before:
            self._before[key] = claims[min(claims)] if claims else None
        return claims

    def settle(self) -> Iterator[tuple[Key, Any, Any]]:
        """(key, value before, value now) of what differs since the last time, sorted; None is absent."""
        touched, self._before = self._before, {}
        for key in sorted(touched):
            before, claims = touched[key], self._claims[key]
            now = claims[min(claims)] if claims else None
            if not claims:
                del self._claims[key]
            if before != now:
                yield key, before, now
