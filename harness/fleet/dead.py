"""The times at which endpoints died: from then on, rules that still use them lose traffic. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from engine.model import EndpointSlice, Name
from engine.tracking import ENDPOINTSLICES, ClusterState, Observed

Usable = frozenset[tuple[int, bytes, int, int]]
"""(family, address, protocol, port) of endpoints that may get traffic."""


class Deaths(NamedTuple):
    """`endpoints` of a programmed Service that died by the change with the number `change`.

    An endpoint is dead if it was ready, or serving while terminating, and no longer is; `back` is when the first of
    them was back, in ns, if at all.
    """

    change: int
    service: Name
    endpoints: int
    back: int | None = None


class DeadEndpoints:
    """Processes slices; `found` are the deaths so far, in order. Modifies `state`, which must not be shared."""

    def __init__(self, state: ClusterState) -> None:
        self.found: list[Deaths] = []
        self._state = state
        self._waiting: dict[tuple[Name, tuple[int, bytes, int, int]], int] = {}

    def observe(self, number: int, t: int, seen: Observed) -> None:
        """Apply the change with this number, at `t` ns."""
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
            self.found.append(Deaths(number, name, len(died)))

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
