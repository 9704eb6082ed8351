"""The effects of a batch: the destinations to probe, and which of its events count as changes.

An event counts if its Service (for an event of the node's own Node object, any Service) must be handled differently
after the batch.  A replay decides this by the engine's plans (harness/replay/effects).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.external.history import FAMILIES, Entry, ExpectedHistory, Name, behaviours, changed
from harness.judge.oracle import Oracle
from harness.log.events import Event

Keys = dict[int, set[Entry]]
Scope = frozenset[Name] | None
"""Services that an event may change; None for all."""


class Change(NamedTuple):
    """`names` are the Services that may have changed, None for all; `part` is the oracle about them after the batch;
    `keys` the entries that differ, by family; `counted` the numbers of the events that count.
    """

    names: Scope
    part: Oracle
    keys: Keys
    counted: frozenset[int]


def observe(history: ExpectedHistory, events: Sequence[Event], mode: str) -> Change:
    """Process the events of a batch."""
    scopes = {event.seq: history.touched(event) for event in events}
    names = _union(scopes.values())
    before = {scope: behaviours(history.part(scope), mode) for scope in {names, *scopes.values()}}
    for event in events:
        history.observe(event)
    part = history.part(names)
    keys: dict[Scope, Keys] = {}
    for scope, old in before.items():
        new = behaviours(part if scope == names else history.part(scope), mode)
        keys[scope] = {family: changed(old[family], new[family]) for family in FAMILIES}
    counted = (seq for seq, scope in scopes.items() if any(keys[scope].values()))
    return Change(names, part, keys[names], frozenset(counted))


def _union(scopes: Iterable[Scope]) -> Scope:
    found: set[Name] = set()
    for scope in scopes:
        if scope is None:
            return None
        found |= scope
    return frozenset(found)
