"""One node's view of a scenario: what its proxy would send in each sync, computed with an in-memory kernel."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.kernel.interface import KernelOfMode
from engine.proxier import Proxier, Sync
from harness.fleet.stage import ChangeBatch, PreparedScenario, config_of
from harness.modes import mode_of
from harness.replay.effects import NOTHING, SENT, UNDONE, Effects

EFFECTS = ("", NOTHING, UNDONE, SENT)
"""The effect of a change by its code; 0: not relevant for this node, or an update without a difference."""
SENT_CODE = EFFECTS.index(SENT)
CODES = {effect: code for code, effect in enumerate(EFFECTS)}
NO_SYNC = -1


@dataclass
class FleetView:
    """The syncs of one node: the initial one, then one entry per batch.

    `operations` is NO_SYNC if no sync was requested, `effects` has the code of each change, and `seconds` are the
    measured times of compute and apply of each sync.
    """

    node: str
    zone: str
    digest: str = ""
    operations: array[int] = field(default_factory=lambda: array("q"))
    bytes: array[int] = field(default_factory=lambda: array("q"))
    effects: bytearray = field(default_factory=bytearray)
    seconds: array[float] = field(default_factory=lambda: array("d"))


def view(
    stage: PreparedScenario,
    node: str,
    clock: Callable[[], float] = time.process_time,
    kernel: KernelOfMode | None = None,
) -> FleetView:
    """Computed by the engine, as by `harness replay --node NODE`, by default in memory; KernelError as there."""
    own = stage.tape.nodes[node]
    kernel = kernel or mode_of(stage.settings.mode).memory().kernel
    proxier = Proxier(stage.settings.mode, config_of(stage), kernel, clock, node)
    found = FleetView(node, own.zone if own else "")
    for seen in stage.tape.initial:
        proxier.state.apply(seen)
    _account(found, proxier.sync())
    for batch in stage.batches:
        _observe(found, proxier, batch, clock)
    found.digest = proxier.digest
    return found


def _observe(found: FleetView, proxier: Proxier, batch: ChangeBatch, clock: Callable[[], float]) -> None:
    effects = Effects({change.event.seq: change.service for change in batch.changes}, proxier.dataplanes)
    started = clock()
    own = [change.observed is not None and proxier.state.apply(change.observed) for change in batch.changes]
    observed = clock() - started
    changed = [change.event for change, mine in zip(batch.changes, own, strict=True) if mine]
    if proxier.state.pending:
        sync = proxier.sync()
        _account(found, sync, observed)
        words = iter(effects.of(changed, sync.bytes > 0))
    else:
        _account(found, None)
        words = iter([NOTHING] * len(changed))
    found.effects += bytes(CODES[next(words)] if mine else 0 for mine in own)


def _account(found: FleetView, sync: Sync | None, observed: float = 0.0) -> None:
    found.operations.append(sync.operations if sync else NO_SYNC)
    found.bytes.append(sync.bytes if sync else 0)
    found.seconds.append(observed + sync.compute_seconds + sync.apply_seconds if sync else 0.0)
