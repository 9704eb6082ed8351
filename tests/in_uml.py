"""Tests marked `uml` run in user-mode Linux: one boot for all of them, each reported as if it had run here.

    first of them -> boot -> pytest inside, same tests -> a file of reports -> each test's own, in its turn

Select, deselect and name them as any other test.  Without user-mode Linux they skip loudly, on CI they fail.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import uml

REPORTS = "HARNESS_TEST_REPORTS"
_RUN = pytest.StashKey["_Run"]()
_KEPT = ("CI", "HYPOTHESIS_PROFILE")


class _Run:
    """What came out of the one boot: reports by test, and the end of its output for those without any."""

    def __init__(self, session: pytest.Session) -> None:
        root = session.config.rootpath
        names = [f"{root}/{item.nodeid}" for item in session.items if item.get_closest_marker("uml")]
        inner = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names]
        output = bytearray()
        with tempfile.TemporaryDirectory(prefix="harness-reports-") as folder:
            file = Path(folder, "reports.jsonl")
            variables = {name: os.environ[name] for name in _KEPT if name in os.environ}
            variables |= {REPORTS: str(file), "HYPOTHESIS_STORAGE_DIRECTORY": "/run/hypothesis"}
            try:
                uml.run(inner, writable=[folder], environment=variables, stdout=output.extend, stderr=output.extend)
            except uml.UmlError as error:
                output += str(error).encode()
            lines = file.read_text().splitlines() if file.exists() else []
        self.ending = output.decode(errors="replace")[-4000:]
        self.reports: dict[str, list] = {}
        for line in lines:
            report = session.config.hook.pytest_report_from_serializable(config=session.config, data=json.loads(line))
            self.reports.setdefault(report.nodeid, []).append(report)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Pass on what was reported from inside."""
    if not item.get_closest_marker("uml") or uml.inside() or not uml.installed():
        return None
    stash = item.session.stash
    if _RUN not in stash:
        stash[_RUN] = _Run(item.session)
    if item.nodeid not in stash[_RUN].reports:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in stash[_RUN].reports[item.nodeid]:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


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
