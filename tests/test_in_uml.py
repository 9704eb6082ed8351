"""The boot that tests share (tests/in_uml.py): a session that ends early takes it along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from harness import uml

pytestmark = pytest.mark.skipif(not uml.installed(), reason="NO USER-MODE LINUX: scripts/setup.sh installs it as root")

INSIDE = """
import time
import pytest

def test_here():
    {here}

@pytest.mark.uml
def test_there():
    time.sleep(100)
"""


def session(folder, here: str) -> subprocess.Popen[bytes]:
    """pytest on two tests of `folder`, its temporary files in `folder/tmp`."""
    (folder / "tmp").mkdir()
    (folder / "conftest.py").write_text('pytest_plugins = ["tests.in_uml"]\n')
    (folder / "test_it.py").write_text(INSIDE.format(here=here))
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    settings = {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": os.getcwd()}
    return subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_a_first_failure_leaves_no_folder(tmp_path):
    output, _ = session(tmp_path, "assert False").communicate(timeout=60)
    assert b"1 failed" in output
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_neither_does_a_signal_while_the_kernel_runs(tmp_path, number):
    process = session(tmp_path, "pass")
    until = time.monotonic() + 60
    while not list((tmp_path / "tmp").glob("harness-uml-*/*/pid")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in output
    assert list((tmp_path / "tmp").iterdir()) == []
