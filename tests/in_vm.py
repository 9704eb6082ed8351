"""Tests marked `vm` run in a virtual machine: one boot for all of them, each reported as if it had run here.

    the first of them -> boot -> pytest inside, all of them -> a file of reports -> each test's own, in its turn

Select, deselect and name them as any other test.  With pytest-xdist they are one group: one worker starts with them
and waits for the machine, which is a process beside it, while the other workers run the other tests.  Where no
machine is available they skip loudly, on CI they fail.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from threading import Event, Thread

import pytest

from harness.places import vm

REPORTS = "HARNESS_TEST_REPORTS"
GROUP = "vm"
_RUN = pytest.StashKey["_Run"]()
_NAME = pytest.StashKey[str]()
"""A test's name without its group, which pytest-xdist adds."""
_KEPT = ("CI", "HYPOTHESIS_PROFILE")
_PLUGINS = ("-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin")
"""Those used inside: to import all that are installed takes an emulated machine as long as to boot."""
_LIMIT_SECONDS = 1800
"""For all of them; inside, each has the limit that any test has."""
_STOP_SECONDS = 30


class _Run(Thread):
    """The one boot: reports by test, and the end of its output for those without any."""

    def __init__(self, config: pytest.Config, names: list[str]) -> None:
        super().__init__(daemon=True, name="virtual machine")
        self._config = config
        # Those named have been selected already: no other selection applies inside.
        self._command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider", *_PLUGINS, *names]
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
            variables |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HYPOTHESIS_NO_PLUGINS": "1"}
            try:
                vm.run(self._command, writable=[folder], environment=variables, limit_seconds=_LIMIT_SECONDS,
                        stopped=self._stopped.is_set, stdout=output.extend, stderr=output.extend)  # fmt: skip
            except vm.VmError as error:
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


@cache
def why_not() -> str | None:
    """Why no machine can be booted here, None where it can: the kernel is downloaded for the first who asks."""
    try:
        vm.resolve()
    except vm.VmError as error:
        return str(error)
    return vm.missing()


def _elsewhere(item: pytest.Item) -> bool:
    return _wanted(item) and not vm.inside() and why_not() is None


def _wanted(item: pytest.Item) -> bool:
    """Whether it is for the inside; those marked `vm(boots=True)` boot a machine of their own."""
    mark = item.get_closest_marker("vm")
    return mark is not None and not mark.kwargs.get("boots")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One group, for one boot, and waiting for it is not theirs to be blamed for."""
    for item in filter(_elsewhere, items):
        item.stash[_NAME] = item.nodeid
        item.add_marker(pytest.mark.timeout(0))
        item.add_marker(pytest.mark.xdist_group(GROUP))


def _boot(session: pytest.Session) -> _Run:
    """The boot for all of the session's tests; from then on SIGTERM ends a session as Ctrl-C does."""
    if _RUN not in session.stash:
        names = [f"{session.config.rootpath}/{item.stash[_NAME]}" for item in session.items if _elsewhere(item)]
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        session.stash[_RUN] = _Run(session.config, names)
        session.stash[_RUN].start()
    return session.stash[_RUN]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Pass on what was reported from inside."""
    if not _elsewhere(item):
        return None
    run = _boot(item.session)
    run.join(_LIMIT_SECONDS + 60)
    if item.stash[_NAME] not in run.reports:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in run.reports[item.stash[_NAME]]:
        report.nodeid = item.nodeid
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """After a signal, or the first failure where that is the last, nobody waits for the rest."""
    if _RUN in session.stash:
        session.stash[_RUN].stop()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that could not run inside says why."""
    if not item.get_closest_marker("vm") or vm.inside() or (not _wanted(item) and why_not() is None):
        return
    if _wanted(item) and _RUN in item.session.stash:
        pytest.fail(f"no report from the virtual machine:\n{item.session.stash[_RUN].ending}", pytrace=False)
    refuse = pytest.fail if os.environ.get("CI") else pytest.skip
    refuse(f"NO TESTS IN A VIRTUAL MACHINE: {why_not()}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Inside, write each report down as it is made."""
    report = yield
    if vm.inside() and REPORTS in os.environ:
        data = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
        with open(os.environ[REPORTS], "a") as file:
            file.write(json.dumps(data) + "\n")
    return report
