"""Scenarios: the recorded events as another setting would have made them. Pure.

minSyncPeriod=5s,10s   each is a scenario of its own: batches are cut with that period
hints=off              endpoints without their zone and node hints
slices=1000            endpoints in slices of at most this many (`harness.fleet.slicing`)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import msgspec

from engine.model import EndpointSlice
from engine.tracking import Observed
from harness.fleet.slicing import sliced
from harness.fleet.tape import Tape
from harness.log import positions

RECORDED = "recorded"
MOST_ENDPOINTS = 1000
"""The API's limit of endpoints in one EndpointSlice."""
FORMS = "minSyncPeriod=5s,10s, hints=off or slices=1000"


class Scenario(NamedTuple):
    """`min_sync_period` in nanoseconds; `slices` is the maximum number of endpoints per slice, None for as recorded."""

    name: str
    min_sync_period: int
    hints: bool = True
    slices: int | None = None


def scenarios(recorded: Scenario, asked: Iterable[str]) -> list[Scenario]:
    """The recording itself, then one scenario per value; ValueError for an unknown setting or value."""
    return [recorded, *(each for text in asked for each in _parsed(recorded, text))]


def _parsed(recorded: Scenario, text: str) -> Iterator[Scenario]:
    setting, _, values = text.partition("=")
    for value in values.split(","):
        name = f"{setting}={value}"
        if setting == "minSyncPeriod":
            yield recorded._replace(name=name, min_sync_period=positions.duration(value))
        elif name == "hints=off":
            yield recorded._replace(name=name, hints=False)
        elif setting == "slices" and value.isascii() and value.isdigit() and 1 <= int(value) <= MOST_ENDPOINTS:
            yield recorded._replace(name=name, slices=int(value))
        else:
            raise ValueError(f"{text!r} is not a setting to vary; there are {FORMS}")


def applied(scenario: Scenario, tape: Tape) -> Tape:
    """The tape as it would be in the scenario; its period matters only when batches are formed."""
    if not scenario.hints:
        tape = without_hints(tape)
    return sliced(tape, scenario.slices) if scenario.slices else tape


def without_hints(tape: Tape) -> Tape:
    """The slice without hints for zones and nodes."""
    changes = (replace(each, observed=each.observed and _plain(each.observed)) for each in tape.changes)
    return replace(tape, initial=tuple(map(_plain, tape.initial)), changes=tuple(changes))


def _plain(seen: Observed) -> Observed:
    piece = seen.value
    if not isinstance(piece, EndpointSlice) or not any(e.zones or e.nodes for e in piece.endpoints):
        return seen
    bare = tuple(msgspec.structs.replace(e, zones=(), nodes=()) for e in piece.endpoints)
    return msgspec.structs.replace(seen, value=msgspec.structs.replace(piece, endpoints=bare))
