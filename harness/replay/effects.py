"""Which changes of a batch affected the kernel: the rest would only dilute a percentile.

A change without effect is recognised by equal plans of its Service before and after the sync: if it was the only one
of its Service in the batch, there was nothing to program; otherwise several changes cancelled each other out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from engine.dataplane import Dataplane
from engine.model import Name
from harness.kube.resources import SERVICE_NAME
from harness.log.events import Event

SENT, NOTHING, UNDONE = "sent", "nothing_to_program", "undone_before_sync"


class _Meta(msgspec.Struct):
    name: str = ""
    namespace: str | None = None
    labels: dict[str, str] | None = None


class _Head(msgspec.Struct):
    metadata: _Meta


_decode = msgspec.json.Decoder(_Head).decode


def service_of(event: Event) -> Name | None:
    """The Service of an event; None for a Node, and for a slice without an owner."""
    if event.resource not in ("services", "endpointslices"):
        return None
    try:
        meta = _decode(event.object).metadata
    except msgspec.MsgspecError:
        return None  # the reader or the engine reports the error
    name = meta.name if event.resource == "services" else (meta.labels or {}).get(SERVICE_NAME)
    return Name(meta.namespace or "", name) if name else None


class Effects:
    """The plans of a batch's Services before its sync, to be compared with those after it.

    `services`: the Service of each event of the batch, by seq.
    """

    def __init__(self, services: Mapping[int, Name | None], dataplanes: Mapping[int, Dataplane]) -> None:
        self._dataplanes = dataplanes
        self._services = services
        self._before = {name: self._plans(name) for name in self._services.values() if name}

    @property
    def names(self) -> set[Name]:
        """Services affected by the batch."""
        return set(self._before)

    def _plans(self, name: Name) -> tuple[object, ...]:
        return tuple(dataplane.plans.get(name) for dataplane in self._dataplanes.values())

    def of(self, changed: Sequence[Event], sent: bool) -> list[str]:
        """SENT, NOTHING or UNDONE for each change; `sent`: whether the sync sent anything to the kernel."""
        counts = Counter(self._services[event.seq] for event in changed)
        same = {name for name, before in self._before.items() if self._plans(name) == before}
        found = []
        for event in changed:
            name = self._services[event.seq]
            if sent and name not in same:
                found.append(SENT)
            else:
                found.append(UNDONE if name in same and counts[name] > 1 else NOTHING)
        return found
