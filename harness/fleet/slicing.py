"""Repacks the endpoints of every Service into slices of another size, as a controller with that limit would. Pure.

An endpoint stays in its slice while it exists; a new one goes to the first slice with room, else to a new slice. A
recorded event becomes one event per changed slice: many small slices are sent as small updates, few large ones as large
updates. Slices with different ports or families are never merged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from engine.model import Endpoint, EndpointSlice, Name
from engine.tracking import ENDPOINTSLICES, Observed
from harness.fleet.tape import Tape, TapeChange
from harness.log.events import Event

SHARED_BYTES, ENDPOINT_BYTES = 700, 230
"""Default size of a slice's JSON without endpoints, and of one endpoint in it, if the recording has none."""


class _Group(NamedTuple):
    """Endpoints that may share a slice."""

    service: Name
    family: int
    ports: tuple[tuple[str, int, int], ...]


@dataclass
class _Kept:
    """The slices of one group: `held[address]` is its entry by recorded slice, `place[address]` its new slice.

    `recorded` counts the recorded slices, `members` are the addresses in each new one.
    """

    recorded: int = 0
    held: dict[bytes, dict[str, Endpoint]] = field(default_factory=dict)
    place: dict[bytes, int] = field(default_factory=dict)
    members: dict[int, dict[bytes, None]] = field(default_factory=dict)


Touched = dict[tuple[_Group, int], None]


class Packer:
    """Repacks slice by slice, in the order of events."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._recorded: dict[Name, EndpointSlice] = {}
        self._groups: dict[_Group, _Kept] = {}

    def repack(self, seen: Observed) -> list[tuple[str, Observed]]:
        """Type and value of each event that replaces this one of a slice; [] if nothing changes."""
        old, new = self._recorded.pop(seen.name, None), seen.value
        touched: Touched = {}
        if old is not None:
            same = isinstance(new, EndpointSlice) and _group(new) == _group(old)
            stay = {e.address for e in new.endpoints} if isinstance(new, EndpointSlice) and same else set()
            self._groups[_group(old)].recorded -= 1
            self._remove(_group(old), seen.name.name, {e.address for e in old.endpoints} - stay, touched)
        if isinstance(new, EndpointSlice):
            self._recorded[seen.name] = new
            self._groups.setdefault(_group(new), _Kept()).recorded += 1
            self._put(_group(new), seen.name.name, new.endpoints, touched)
        if old is not None and not self._groups[_group(old)].recorded and self._groups[_group(old)].members:
            touched[_group(old), 0] = None
        return [self._written(group, number) for group, number in touched]

    def _remove(self, group: _Group, recorded: str, gone: set[bytes], touched: Touched) -> None:
        kept = self._groups[group]
        for address in sorted(gone):
            kept.held[address].pop(recorded, None)
            touched[group, kept.place[address]] = None
            if not kept.held[address]:
                del kept.held[address]
                del kept.members[kept.place.pop(address)][address]

    def _put(
        self,
        group: _Group,
        recorded: str,
        endpoints: tuple[Endpoint, ...],
        touched: Touched,
    ) -> None:
        kept = self._groups[group]
        for endpoint in endpoints:
            address = endpoint.address
            before = kept.held.get(address, {}).get(recorded)
            if before == endpoint:
                continue
            kept.held.setdefault(address, {})[recorded] = endpoint
            if address not in kept.place:
                kept.place[address] = self._room(kept)
                kept.members.setdefault(kept.place[address], {})[address] = None
            touched[group, kept.place[address]] = None
        if not endpoints and not kept.members:
            touched[group, 0] = None  # an empty slice is written too
            kept.members[0] = {}

    def _room(self, kept: _Kept) -> int:
        with_room = (number for number, members in kept.members.items() if len(members) < self._most)
        return next(with_room, max(kept.members, default=-1) + 1)

    def _written(self, group: _Group, number: int) -> tuple[str, Observed]:
        kept = self._groups[group]
        family, ports = group.family, "-".join(f"{name}{protocol}{port}" for name, protocol, port in group.ports)
        name = f"{group.service.name}-{family}-{ports}-{number}"
        own = Name(group.service.namespace, name)
        members = kept.members.get(number)
        if not members and (number or not kept.recorded):
            kept.members.pop(number, None)
            return "DELETED", Observed(ENDPOINTSLICES, own, None)
        endpoints = tuple(kept.held[a][min(kept.held[a])] for a in members or ())
        piece = EndpointSlice(group.service, name, family, group.ports, endpoints)
        return "MODIFIED", Observed(ENDPOINTSLICES, own, piece)


def sliced(tape: Tape, most: int) -> Tape:
    """The tape with at most `most` endpoints per slice; events are renumbered, `origin` is kept."""
    packer = Packer(most)
    initial: list[Observed] = []
    for seen in tape.initial:
        if seen.resource != ENDPOINTSLICES:
            initial.append(seen)
            continue
        initial += [written for _, written in packer.repack(seen)]
    size = _sizes(tape)
    changes = (one for change in tape.changes for one in _changed(change, packer, size))
    numbered = (replace(one, event=_numbered(one.event, number)) for number, one in enumerate(changes, 1))
    return replace(tape, initial=tuple(initial), changes=tuple(numbered))


def _numbered(event: Event, seq: int) -> Event:
    return Event(seq, event.t, event.type, event.resource)


def _changed(change: TapeChange, packer: Packer, size: tuple[float, float]) -> Iterator[TapeChange]:
    if change.observed is None or change.observed.resource != ENDPOINTSLICES:
        yield change
        return
    for kind, seen in packer.repack(change.observed):
        piece = seen.value
        count = len(piece.endpoints) if isinstance(piece, EndpointSlice) else 0
        event = Event(0, change.event.t, kind, ENDPOINTSLICES)
        yield TapeChange(event, change.origin, seen, change.service, round(size[0] + size[1] * count))


def _sizes(tape: Tape) -> tuple[float, float]:
    """Bytes of a slice and of each endpoint in it, from the recorded manifests of this tape."""
    sizes: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    for change in tape.changes:
        if change.observed and isinstance(change.observed.value, EndpointSlice):
            count = len(change.observed.value.endpoints)
            sizes[count] += change.bytes
            seen[count] += 1
    if len(seen) < 2:
        return SHARED_BYTES, ENDPOINT_BYTES
    few, many = min(seen), max(seen)
    each = (sizes[many] / seen[many] - sizes[few] / seen[few]) / (many - few)
    return max(0.0, sizes[few] / seen[few] - each * few), each


def _group(piece: EndpointSlice) -> _Group:
    return _Group(piece.service, piece.family, piece.ports)
