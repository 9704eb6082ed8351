"""An Event in its two forms: core/v1 and events.k8s.io/v1 are one object under two names. Pure."""

from __future__ import annotations

from typing import Any

from harness.serve.kinds import EVENTS, NEW_EVENTS, Kind

OLD_TO_NEW = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "source": "deprecatedSource",
}
NEW_TO_OLD = {new: old for old, new in OLD_TO_NEW.items()}


def twin(kind: Kind) -> Kind | None:
    """The other kind under which the same object is served; None for kinds that have none."""
    return {EVENTS: NEW_EVENTS, NEW_EVENTS: EVENTS}.get(kind)


def as_twin(kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest of `kind` as one of its twin."""
    names = OLD_TO_NEW if kind is EVENTS else NEW_TO_OLD
    other = {names.get(name, name): value for name, value in manifest.items()}
    return other | {"apiVersion": twin(kind).api_version}
