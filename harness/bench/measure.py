"""Measures one row: candidate and baseline alternate, so that other load of the machine affects both equally.

The engine runs in two processes of which one is always idle: a first sync by one, then by the other, then each change.
Which one is first alternates. Proxies measured from outside alternate by starts; a change of one is compared with the
same change of the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from engine.kernel.interface import KernelError
from harness.bench.baseline import Baseline, Python
from harness.bench.recordings import APART, recording_of
from harness.bench.references import References
from harness.bench.rows import CHANGES, DAEMON, BenchRow
from harness.bench.samples import Record, Sample, Samples
from harness.bench.workers import NotAvailable, StepAnswer, Worker, WorkerFailed
from harness.external.measurement import Figures
from harness.external.run import ExternalOptions, measured
from harness.kube.proxy import Command
from harness.log.window import Window
from harness.places.namespace import NamespaceError

NOT_AVAILABLE, FAILED = "not available", "failed"
OUTSIDE_CHANGES = 20
"""Batches per start of a proxy measured from outside, each of which is detected by packets."""
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Subjects:
    """The measured proxy and its baseline; the first sync from outside may take `give_up_seconds`.

    `starts` is how often each is started, by default as often as the row requires.
    """

    python: Python
    baseline: Baseline
    commands: Mapping[str, Command]
    give_up_seconds: float = 300.0
    starts: int | None = None

    def command(self, row: BenchRow) -> Command:
        """The candidate of a row measured from outside."""
        return self.python.daemon() if row.proxy == DAEMON else self.commands[row.proxy]

    def other(self, row: BenchRow) -> Command | None:
        """Its baseline: another version's daemon, or another proxy."""
        if row.proxy == DAEMON and self.baseline.python:
            return self.baseline.python.daemon()
        name = self.baseline.proxy
        return self.commands.get(name) if name and name != row.proxy else None


def measure(row: BenchRow, subjects: Subjects, folder: Path, references: References, progress: Progress) -> Record:
    """A complete record, which includes errors of the proxies."""
    began = time.monotonic()
    progress(f"{row.id}: its recording")
    path = recording_of(row, folder)
    turn = _inside if row.inside else _outside
    candidate, baseline = turn(row, subjects, path, references, progress)
    return Record(row, candidate, baseline, references.taken(), time.monotonic() - began)


def _inside(
    row: BenchRow, subjects: Subjects, path: Path, references: References, progress: Progress
) -> tuple[Samples, Samples | None]:
    pythons = [subjects.python, *([subjects.baseline.python] if subjects.baseline.python else [])]
    found = [Samples() for _ in pythons]
    starts = subjects.starts or row.starts[0]
    try:
        for start in range(starts):
            progress(f"{row.id}: start {start + 1} of {starts}")
            references.measure()
            with ExitStack() as stack:
                workers = [stack.enter_context(Worker(python, path, row.mode)) for python in pythons]
                _start(row, start, list(zip(workers, found, strict=True)))
    except NotAvailable as error:
        for each in found:
            each.state, each.reason = NOT_AVAILABLE, str(error)
    except WorkerFailed:
        pass  # its samples contain the error
    return found[0], found[1] if len(found) > 1 else None


Team = list[tuple[Worker, Samples]]


def _start(row: BenchRow, start: int, team: Team) -> None:
    """First syncs, then the changes of the last one's cluster."""
    restart = row.churn == "restart"
    if restart:
        for worker, samples in team:
            _step(worker, samples, "first")
    for number in range(row.starts[1]):
        for worker, samples in _in_turn(team, start + number):
            answer = _step(worker, samples, "restart" if restart else "first")
            assert answer, "a first sync always answers"
            samples.first_sync.append(_sample((start, number), answer))
            if not number:
                samples.memory.append(answer.peak_memory_bytes)
    if not start:
        _sizes(team)
    for number in range(CHANGES[row.churn]):
        for worker, samples in _in_turn(team, number):
            if answer := _step(worker, samples, "change"):
                samples.change.append(_sample((start, number), answer))


def _step(worker: Worker, samples: Samples, name: str) -> StepAnswer | None:
    try:
        return worker.step(name)
    except WorkerFailed as error:
        samples.state, samples.reason = FAILED, str(error)
        raise


def _in_turn(team: Team, number: int) -> Iterator[tuple[Worker, Samples]]:
    yield from team if number % 2 == 0 else reversed(team)


def _sizes(team: Team) -> None:
    for worker, samples in team:
        if answer := _step(worker, samples, "size"):
            samples.rules, samples.elements = answer.rules, answer.elements


def _sample(at: tuple[int, int], answer: StepAnswer) -> Sample:
    return Sample(at, answer.seconds, answer.cpu_seconds)


def _outside(
    row: BenchRow, subjects: Subjects, path: Path, references: References, progress: Progress
) -> tuple[Samples, Samples | None]:
    other = subjects.other(row)
    team = [(subjects.command(row), Samples()), *([(other, Samples())] if other else [])]
    starts = subjects.starts or row.starts[0]
    for start in range(starts):
        references.measure()
        for command, samples in team if start % 2 == 0 else reversed(team):
            if samples.state == "measured":
                progress(f"{row.id}: start {start + 1} of {starts} of {command.name}")
                _run(row, command, str(path), start, samples, subjects.give_up_seconds)
    return team[0][1], team[1][1] if other else None


def _run(row: BenchRow, command: Command, path: str, start: int, samples: Samples, give_up: float) -> None:
    restarts = 1 if row.churn == "restart" else 0
    window = Window(until=("t", OUTSIDE_CHANGES * APART))
    options = ExternalOptions(give_up_seconds=give_up, restarts=restarts, window=window)
    try:
        _, figures = measured(path, command, row.mode, options)
    except (NamespaceError, KernelError, OSError) as error:
        samples.state, samples.reason = NOT_AVAILABLE, str(error)
        return
    _take(figures, start, samples, bool(restarts))


def _take(figures: Figures, start: int, samples: Samples, restart: bool) -> None:
    if figures.state:
        samples.state, samples.reason = figures.state, figures.reason
    firsts = [(figures.first_seconds, figures.cpu.get("first_sync"))] if not restart else figures.again
    samples.first_sync += [Sample((start, n), seconds, cpu) for n, (seconds, cpu) in enumerate(firsts) if seconds]
    count = len(figures.batches)
    cpu = figures.cpu.get("changes", 0.0) / count if count else None
    samples.change += [Sample((start, seq), seconds, cpu) for seq, seconds in figures.batches]
    samples.memory.append(figures.peak_bytes)
    if figures.size:
        samples.rules, samples.elements = figures.size
