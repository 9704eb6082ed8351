"""Case stages as events of a recording, for the oracle."""

from __future__ import annotations

import msgspec

from harness.acceptance.cases import CaseStage
from harness.log.events import Event


def as_events(stage: CaseStage, seq: int) -> list[Event]:
    """The stage's changes as a recording's events, numbered from `seq`."""
    return [Event(seq + i, 0, kind, resource, msgspec.Raw(raw)) for i, (kind, resource, raw) in enumerate(stage.events)]
