"""The convergence of each change: from a replay in memory, a saved replay result, or the facts of a chaos run.

`python -m harness.explore.convergence MODE [NODE]` replays the recording on standard input and writes its points as
JSON: a separate process, so that the page and the measurement do not slow each other down.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.log.events import Event
from harness.log.lines import event_line, header_line
from harness.replay.result import ReplayResult
from harness.wording import plural

if TYPE_CHECKING:
    from harness.explore.history import History
    from harness.explore.run import ChaosRun

NS = 1_000_000_000
MOST_SECONDS = 600.0
"""A replay that takes longer is given up."""


class ChangePoint(msgspec.Struct, frozen=True):
    """One change: its event's seq (None if only its time is known), its time, and its convergence time.

    `seconds` None: the rules never converged.  `parts` are the waits it consists of, None if unknown; `where` is the
    node and the address, if known.
    """

    seq: int | None
    at_seconds: float
    seconds: float | None
    parts: dict[str, float] | None = None
    where: str = ""


class SlowestChange(msgspec.Struct, frozen=True):
    """The slowest change of an interval, if single changes are not known."""

    at_seconds: float
    seconds: float


class Convergence(msgspec.Struct, frozen=True):
    """`source` describes the origin of the figures and what they leave out."""

    source: str
    points: list[ChangePoint] = []
    stretches: list[SlowestChange] = []
    step_seconds: float = 0.0


async def measured(history: History, mode: str, node: str | None) -> Convergence:
    """By a replay in memory. ValueError with its reason if it fails."""
    count = len(history)
    stored = await asyncio.to_thread(_stored, history, count)
    command = [sys.executable, "-m", __name__, mode, *([node] if node else [])]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(stored), MOST_SECONDS)
    except TimeoutError:
        raise ValueError(f"the replay had not ended after {MOST_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = err.decode(errors="replace").strip().splitlines() or ["the replay failed"]
        raise ValueError(f"{history.path}: {said[-1].removeprefix('-: ')}")
    points = msgspec.json.decode(out, type=list[ChangePoint])
    return Convergence(
        f"a replay of the first {plural(count, 'event')} in memory, on this machine, mode {mode},"
        f" {f'node {node}' if node else 'the first node'}, minSyncPeriod 1 s: {plural(len(points), 'change')} that sent"
        " something. It includes the engine's work and all waiting, but not the time a kernel takes",
        points,
    )


def _stored(history: History, count: int) -> bytes:
    return header_line(history.header) + b"".join(map(event_line, history.events[:count]))


def of_result(path: str, sha256: str) -> Convergence:
    """From the result of `harness replay --json` of that recording. ValueError for another file; OSError."""
    try:
        result = msgspec.json.decode(Path(path).read_bytes(), type=ReplayResult)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: not a result of `harness replay --json`: {error}") from None
    found, engine, step = result.recording.sha256, result.engine, result.timeline.step_seconds
    if found != sha256:
        raise ValueError(f"{path}: is the result of another recording (sha256 {found[:16]}, not {sha256[:16]})")
    source = (
        f"{path}: a replay, mode {engine.mode}, node {engine.node}, kernel {result.kernel.get('kind')},"
        f" minSyncPeriod {engine.min_sync_period_seconds:g} s; the slowest change of each {step:g} s"
    )
    stretches = [SlowestChange(each.at_seconds, each.convergence_seconds) for each in result.timeline.stretches]
    return Convergence(source, [], [each for each in stretches if each.seconds], step)


def of_run(run: ChaosRun) -> Convergence:
    """From a chaos run's observations of its nodes' kernels."""
    points = [
        ChangePoint(
            None, each.asked, None if each.seen is None else each.seen - each.asked,
            where=f"{each.node}: {each.address} {'added' if each.wanted else 'removed'}",
        )
        for each in run.observed
    ]  # fmt: skip
    sources = Counter(each.source or "readback" for each in run.observed if each.seen is not None)
    by = ", ".join(f"{count} by {name}" for name, count in sources.most_common()) or "none seen"
    return Convergence(
        f"the run: {plural(len(points), 'change')} of addresses by node, {by}. Time counts from the change, also while"
        " a fault keeps a node from receiving it",
        points,
    )


def _replayed(mode: str, node: str | None) -> list[ChangePoint]:
    """Replays standard input into memory."""
    from harness.replay.kernels import open_kernel
    from harness.replay.rolling import ChangeSample, Watchers
    from harness.replay.session import ReplayOptions, ReplaySession

    points: list[ChangePoint] = []

    class Collecting(Watchers):
        def changed(self, event: Event, sample: ChangeSample) -> None:
            waited = max(0.0, sample.convergence - sample.queue - sample.work)
            parts = {"pacing": waited, "queue": sample.queue, "work": sample.work}
            points.append(ChangePoint(event.seq, event.t / NS, sample.convergence, parts))

    with open_kernel("memory", mode) as target:
        ReplaySession("-", ReplayOptions(mode, node=node, verify="none"), target, lambda *_: None, Collecting()).run()
    return points


def _main(mode: str, node: str | None = None) -> None:
    try:
        points = _replayed(mode, node)
    except (ValueError, LookupError, RuntimeError) as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(points))


if __name__ == "__main__":
    _main(*sys.argv[1:])
