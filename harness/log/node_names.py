"""Checks that the requested node is one of the recording's."""

from __future__ import annotations

from harness.log.errors import RecordingError
from harness.log.events import OBJECT_TYPES, Event
from harness.log.notes import note
from harness.log.state import key_of

NODES = "nodes"
OFFERED = 8


class NodeNames:
    """Nodes seen so far, in order, with the `seq` of their deletion."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: dict[str, int | None] = {}

    def observe(self, event: Event) -> None:
        """Process an event; those of other resources are cheap."""
        if event.resource == NODES and event.type in OBJECT_TYPES:
            self._seen[key_of(event)[2]] = event.seq if event.type == "DELETED" else None

    @property
    def first(self) -> str | None:
        """The default node."""
        return next(iter(self._seen), None)

    def require(self, name: str | None) -> None:
        """RecordingError if no Node has this name; without any Node, every name is accepted."""
        if name is None or not self._seen or name.lower() in self._seen:
            return
        names = list(self._seen)
        more = f" and {len(names) - OFFERED} more" if len(names) > OFFERED else ""
        known = f"there are {', '.join(names[:OFFERED])}{more}"
        raise RecordingError(self._path, None, f"no Node {name!r} up to the requested position; {known}")

    def note_deleted(self, name: str | None) -> None:
        """Warn if the Node was deleted."""
        seq = self._seen.get(name.lower()) if name else None
        if seq is not None:
            note(
                f"{self._path}: Node {name} is deleted at seq {seq}; the result is for a proxy that stays on it;"
                " choose another with --node, or an earlier end"
            )
