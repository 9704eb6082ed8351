"""Tests marked `uml` run in user-mode Linux: one boot for all of them, each reported as if it had run here.

    start of the session -> boot -> pytest inside, same tests -> a file of reports -> each test's own, in its turn

The kernel is a process beside this one: it works while the other tests run, so those marked come last. Select,
deselect and name them as any other test.  Without user-mode Linux they skip loudly, on CI they fail.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from harness import uml

REPORTS = "HARNESS_TEST_REPORTS"
_RUN = pytest.StashKey["_Run"]()
_KEPT = ("CI", "HYPOTHESIS_PROFILE")
_LIMIT_SECONDS = 900
"""For all of them; inside, each has the limit that any test has."""
_STOP_SECONDS = 30


class _Run(Thread):
    """The one boot: reports by test, and the end of its output for those without any."""

    def __init__(self, config: pytest.Config, names: list[str]) -> None:
        super().__init__(daemon=True, name="user-mode Linux")
        self._config = config
        self._command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names]
        self._stopped = Event()
        self.ending = ""
        self.reports: dict[str, list] = {}

    def run(self) -> None:
        """Boot and wait for the end; whatever goes wrong is in `ending`."""
        output = bytearray()
        with tempfile.TemporaryDirectory(prefix="harness-reports-") as folder:
            file = Path(folder, "reports.jsonl")
            variables = {name: os.environ[name] for name in _KEPT if name in os.environ}
            variables |= {REPORTS: str(file), "HYPOTHESIS_STORAGE_DIRECTORY": "/run/hypothesis"}
            try:
                uml.run(self._command, writable=[folder], environment=variables, limit_seconds=_LIMIT_SECONDS,
                        stopped=self._stopped.is_set, stdout=output.extend, stderr=output.extend)  # fmt: skip
            except uml.UmlError as error:
                output += str(error).encode()
            lines = file.read_text().splitlines() if file.exists() and not self._stopped.is_set() else []
        self.ending = output.decode(errors="replace")[-4000:]
        for line in lines:
            report = self._config.hook.pytest_report_from_serializable(config=self._config, data=json.loads(line))
            self.reports.setdefault(report.nodeid, []).append(report)

    def stop(self) -> None:
        """Kill what still runs, and wait until its folders are gone."""
        self._stopped.set()
        self.join(_STOP_SECONDS)


def _elsewhere(item: pytest.Item) -> bool:
    return bool(item.get_closest_marker("uml")) and uml.installed() and not uml.inside()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that run elsewhere come last, and waiting for them is not theirs to be blamed for."""
    for item in filter(_elsewhere, items):
        item.add_marker(pytest.mark.timeout(0))
    items.sort(key=_elsewhere)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Boot, for what has been selected; from then on SIGTERM ends a session as Ctrl-C does."""
    names = [f"{session.config.rootpath}/{item.nodeid}" for item in session.items if _elsewhere(item)]
    if names and not session.config.option.collectonly:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        session.stash[_RUN] = _Run(session.config, names)
        session.stash[_RUN].start()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Pass on what was reported from inside."""
    if not _elsewhere(item):
        return None
    run = item.session.stash[_RUN]
    run.join(_LIMIT_SECONDS + 60)
    if item.nodeid not in run.reports:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in run.reports[item.nodeid]:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """After a signal, or the first failure where that is the last, nobody waits for the rest."""
    if _RUN in session.stash:
        session.stash[_RUN].stop()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that could not run inside says why."""
    if not item.get_closest_marker("uml") or uml.inside():
        return
    if _RUN in item.session.stash:
        pytest.fail(f"no report from user-mode Linux:\n{item.session.stash[_RUN].ending}", pytrace=False)
    refuse = pytest.fail if os.environ.get("CI") else pytest.skip
    refuse("NO TESTS IN USER-MODE LINUX: it is not installed (scripts/setup.sh does it as root)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Inside, write each report down as it is made."""
    report = yield
    if uml.inside() and REPORTS in os.environ:
        data = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
        with open(os.environ[REPORTS], "a") as file:
            file.write(json.dumps(data) + "\n")
    return report
