"""Runs rows with pytest and pytest-benchmark: each is measured by the first test that needs it, and kept.

pytest's own output goes to `pytest.log` in the folder, unless options were given for it; its JSON to `benchmark.json`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.bench.campaign import Campaign
from harness.bench.measure import Subjects, measure
from harness.bench.references import References
from harness.bench.rows import BenchRow
from harness.bench.samples import Record
from harness.exit_codes import EXIT_INPUT
from harness.failure import Failure

SUITE = Path(__file__).with_name("suite.py")
_FINE = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


class BenchError(Failure, RuntimeError):
    """pytest did not run the rows; the message says why."""

    exit_code = EXIT_INPUT


Report = Callable[[BenchRow | str, bool], None]
"""Receives a row, or a step of it, and whether it is done."""


class Rows:
    """A pytest plugin that gives the suite its rows; `report(row, done)` is called before and after each."""

    def __init__(self, rows: Sequence[BenchRow], campaign: Campaign, subjects: Subjects, report: Report) -> None:
        self._rows, self._campaign, self._subjects, self._report = rows, campaign, subjects, report
        self._records: dict[BenchRow, Record] = {}
        self._stack = contextlib.ExitStack()
        self._references: References | None = None

    @property
    def records(self) -> list[Record]:
        """The records of the rows that ran, in the profile's order."""
        return [self._records[row] for row in self._rows if row in self._records]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Every test of the suite once per row."""
        if "record" in metafunc.fixturenames:
            metafunc.parametrize("record", self._rows, indirect=True, ids=[row.id for row in self._rows])

    def pytest_unconfigure(self) -> None:
        """Remove the namespace of the reference workloads."""
        self._stack.close()

    @pytest.fixture(scope="session")
    def record(self, request: pytest.FixtureRequest) -> Record:
        """A row's record: already in memory, kept by an interrupted run, or measured now."""
        row: BenchRow = request.param
        if row not in self._records:
            held = self._campaign.record(row)
            self._records[row] = held or self._measured(row)
            self._report(row, True)
        return self._records[row]

    def _measured(self, row: BenchRow) -> Record:
        if self._references is None:
            self._references = self._stack.enter_context(References())
        record = measure(
            row, self._subjects, self._campaign.recordings, self._references, lambda what: self._report(what, False)
        )
        self._campaign.keep(record)
        return record


def run(
    rows: Sequence[BenchRow],
    campaign: Campaign,
    subjects: Subjects,
    report: Report,
    arguments: Sequence[str] = (),
) -> list[Record]:
    """Records of all rows that pytest's `arguments` select; BenchError, KeyboardInterrupt."""
    plugin = Rows(rows, campaign, subjects, report)
    options = [
        str(SUITE), "-q", "--no-header", "-p", "pytest_benchmark.plugin", "-p", "no:cacheprovider", "--capture=no",
        f"--rootdir={campaign.folder}", "-c", os.devnull, "--benchmark-json", str(campaign.folder / "benchmark.json"),
        f"--benchmark-storage=file://{campaign.folder / 'saved'}", *(arguments or ["--benchmark-quiet"]),
    ]  # fmt: skip
    ended: list[int] = []
    with (
        _alone(),
        warnings.catch_warnings(),
        _output(campaign.folder / "pytest.log", bool(arguments)),
        _interrupted_by_term(ended),
    ):
        warnings.filterwarnings("ignore", "Not saving anything")  # an interrupted run: its rows are kept
        code = pytest.main(options, plugins=[plugin])
    if ended:
        sys.exit(128 + ended[0])
    if code == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if code not in _FINE and not (code == pytest.ExitCode.TESTS_FAILED and arguments):
        raise BenchError(f"pytest ended with {int(code)}: {campaign.folder / 'pytest.log'} says why")
    return plugin.records


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No plugins but our own, whatever is installed, and no settings of a test suite that calls this."""
    names = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYTEST_XDIST_WORKER": ""}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _interrupted_by_term(ended: list[int]) -> Iterator[None]:
    """SIGTERM ends the run; pytest would treat SystemExit as a failed test, and continue with the next row."""

    def end(number: int, _frame: object) -> None:
        ended.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _output(path: Path, shown: bool) -> Iterator[None]:
    if shown:
        with contextlib.redirect_stdout(sys.stderr):  # standard output may be our JSON
            yield
        return
    with open(path, "w") as log, contextlib.redirect_stdout(log):
        yield


def shares(rows: Sequence[BenchRow], campaign: Campaign) -> tuple[list[BenchRow], int]:
    """Rows still to be measured, and the sum of their weights."""
    left = [row for row in rows if campaign.record(row) is None]
    return left, sum(row.weight for row in left)
