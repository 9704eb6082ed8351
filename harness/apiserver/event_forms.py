"""The two forms of an Event: core/v1 and events.k8s.io/v1 are the same object. Pure."""

from __future__ import annotations

from typing import Any

from harness.kube.resources import EVENTS, NEW_EVENTS, Kind

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
    """The other kind that serves the same object, or None."""
    return {EVENTS: NEW_EVENTS, NEW_EVENTS: EVENTS}.get(kind)


def as_twin(kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
    """Convert a manifest of `kind` to its twin."""
    names = OLD_TO_NEW if kind is EVENTS else NEW_TO_OLD
    other = {names.get(name, name): value for name, value in manifest.items()}
    other_kind = twin(kind)
    assert other_kind, "only events have a twin"
    return other | {"apiVersion": other_kind.api_version}
