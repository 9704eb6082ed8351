"""The event log's vocabulary: what a recording says, before anyone interprets it.

Readers (`harness.recording`) produce these values, everything else folds over them.  The manifest
stays raw JSON here: the engine and the oracle each decode it themselves, so neither can inherit the
other's mistakes.
"""

from __future__ import annotations

import msgspec

FORMAT = "kube-proxy-harness/recording"
VERSION = 1

RESOURCES = ("services", "endpointslices", "nodes", "pods")
OBJECT_TYPES = ("ADDED", "MODIFIED", "DELETED")
MARKER_TYPES = ("BOOKMARK", "RELIST", "GAP", "FAULT")

TICK = "TICK"
"""A follower's own: the recording's clock has passed `t`, though no event came. Never stored."""

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""Annotation on the BOOKMARK that ends a resource's initial list, as in the API's WatchList."""


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """First line of a recording. `start` is RFC 3339; `generator` is set for synthetic ones."""

    format: str
    version: int
    resources: tuple[str, ...] = ()
    start: str | None = None
    cluster: dict = msgspec.field(default_factory=dict)
    generator: dict | None = None


class Event(msgspec.Struct, frozen=True, gc=False):
    """One line of a recording: `t` in nanoseconds since the start, `object` the manifest's JSON."""

    seq: int
    t: int
    type: str
    resource: str
    object: msgspec.Raw = msgspec.Raw(b"")

    @property
    def ticks(self) -> bool:
        """Whether it only says what time it is."""
        return self.type == TICK

    @property
    def ends_initial_list(self) -> bool:
        """Whether this is the BOOKMARK after a resource's initial list."""
        return self.type == "BOOKMARK" and INITIAL_EVENTS_END.encode() in bytes(self.object)
