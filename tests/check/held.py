"""A recording programmed into a kernel, and the oracle's expectation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from engine.proxier import Proxier
from harness.acceptance.case_config import proxy_config
from harness.judge.behaviour import Behaviour
from harness.judge.oracle import Oracle, Settings
from harness.log import open_source
from harness.log.events import OBJECT_TYPES
from harness.modes.opened import ModeView

FAMILIES = (4, 6)
_ROOT = Path(__file__).parents[2] / "recordings"
RICH = str(next(path for path in (_ROOT / "rules.jsonl", _ROOT / "demo.jsonl") if path.exists()))
"""The recording that exercises every rule."""


class Programmed(NamedTuple):
    """A kernel after a recording, and what it should hold."""

    view: ModeView
    oracle: Oracle
    expected: dict[int, Behaviour]
    settings: Settings


def program(opened, mode: str, source: str) -> Programmed:
    """The recording's end, written at once."""
    with open_source(source) as recording:
        cluster = recording.header.cluster
        settings = Settings(
            cluster_cidr=cluster.get("clusterCIDR") or "", service_cidrs=tuple(cluster.get("serviceCIDRs") or ())
        )
        oracle, proxier = (
            Oracle(None, settings),
            Proxier(mode, proxy_config(settings, settings.version), opened.kernel, time.perf_counter),
        )
        for event in recording:
            oracle.observe(event)
            if event.type in OBJECT_TYPES:
                proxier.state.observe(event.type, event.resource, event.object)
    proxier.sync()
    return Programmed(opened.view, oracle, {f: oracle.behaviour(f, mode) for f in FAMILIES}, settings)
