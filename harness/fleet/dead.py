"""When endpoints died: from then on, rules that still lead to them lose traffic. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from engine.model import EndpointSlice, Name
from engine.tracking import ENDPOINTSLICES, ClusterState, Observed

Usable = frozenset[tuple[int, bytes, int, int]]
"""(family, address, protocol, port) of endpoints that may get traffic."""


class Dead(NamedTuple):
    """`endpoints` of a programmed Service died by a change, the first one of them was back at `back` ns, if any.

    `change` is its number.  Dead is an endpoint that was ready, or serving while it terminated, and no longer is.
    """

    change: int
    service: Name
    endpoints: int
    back: int | None = None


class DeadEndpoints:
    """Watches slices; `found` are the deaths so far, in order. Changes `state`, which must be no one else's."""

    def __init__(self, state: ClusterState) -> None:
        self.found: list[Dead] = []
        self._state = state
        self._waiting: dict[tuple[Name, tuple[int, bytes, int, int]], int] = {}

    def observe(self, number: int, t: int, seen: Observed) -> None:
        """Apply one change, the `number`th, at `t` ns."""
        name = self._owner(seen)
        before = usable(self._state.slices.get(name, {})) if name else frozenset()
        self._state.apply(seen)
        if name is None or name not in self._state.services:
            return
        now = usable(self._state.slices.get(name, {}))
        for one in now - before:
            if (place := self._waiting.pop((name, one), None)) is not None and self.found[place].back is None:
                self.found[place] = self.found[place]._replace(back=t)
        if died := before - now:
            self._waiting |= {(name, one): len(self.found) for one in died}
            self.found.append(Dead(number, name, len(died)))

    def _owner(self, seen: Observed) -> Name | None:
        if seen.resource != ENDPOINTSLICES:
            return None
        if isinstance(seen.value, EndpointSlice):
            return seen.value.service
        return self._state.owner(seen.name)


def usable(slices: Mapping[str, EndpointSlice]) -> Usable:
    """The endpoints of one Service that may get traffic, over all its slices."""
    return frozenset(
        (piece.family, endpoint.address, protocol, port)
        for piece in slices.values()
        for endpoint in piece.endpoints
        if endpoint.usable
        for _, protocol, port in piece.ports
    )
