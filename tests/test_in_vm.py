"""The boot that tests share (tests/in_vm.py): a session that ends early takes it along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.in_vm import why_not
from tests.waiting import until as eventually


@pytest.fixture(autouse=True)
def machine() -> None:
    """Needs what a virtual machine needs."""
    if why_not():
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse(f"NO TESTS OF VIRTUAL MACHINES: {why_not()}")


INSIDE = """
import time
import pytest

def test_here():
    pass

@pytest.mark.vm
def test_there():
    time.sleep(100)
"""


def session(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """pytest on two tests of `folder`, its temporary files in `folder/tmp`."""
    (folder / "tmp").mkdir()
    (folder / "conftest.py").write_text('pytest_plugins = ["tests.in_vm"]\n')
    (folder / "test_it.py").write_text(INSIDE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", folder, folder, *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    settings = {**kept, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": os.getcwd()}
    return subprocess.Popen(
        [*command, "--basetemp", folder / "base"], env=settings,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def machines_of(process: psutil.Process) -> list[psutil.Process]:
    """The QEMU processes that a process has started, or its children have."""
    found = []
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += [child] if child.name().startswith("qemu") else []
    return found


@pytest.mark.parametrize("options", [(), ("-n", "2", "--dist", "loadgroup")], ids=["one process", "workers"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_kernel_runs_leaves_nothing(tmp_path, number, options):
    process = session(tmp_path, *options)
    machines = eventually(lambda: machines_of(psutil.Process(process.pid)), 60)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode, output
    eventually(lambda: not any(machine.is_running() for machine in machines), 60)
    eventually(lambda: not list((tmp_path / "tmp").iterdir()), 60)
