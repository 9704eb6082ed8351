"""The pieces that workers do.  Each is a function of its arguments, so that a lost one can be done again by another."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from harness.fleet.cost import fitted
from harness.fleet.scenario import Scenario
from harness.fleet.share import Share, share_of
from harness.fleet.stage import Settings, Stage, staged
from harness.fleet.tape import Tape
from harness.fleet.view import NO_SYNC, view


def prepared(tape: Tape, scenario: Scenario, settings: Settings) -> Stage:
    """A stage with its cost, measured on the view of the first node."""
    with unswept():
        stage = staged(tape, scenario, settings)
        first = view(stage, next(iter(tape.nodes)), time.process_time)
    ran = [n for n, operations in enumerate(first.operations) if n and operations != NO_SYNC]
    return replace(stage, cost=fitted([first.operations[n] for n in ran], [first.seconds[n] for n in ran]))


def share(stage: Stage, nodes: Sequence[str]) -> Share:
    """The figures of these nodes' views."""
    with unswept():
        return share_of(stage, (view(stage, node) for node in nodes))


@contextmanager
def unswept() -> Iterator[None]:
    """Keep the garbage collector from walking the recording again and again; views free themselves by reference."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
