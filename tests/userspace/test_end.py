"""However a replay in userspace mode ends, its proxy process ends soon after."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil
import pytest

from engine.kernel.interface import KernelError
from harness.modes import userspace
from harness.places.place import Place

COMMAND = [sys.executable, "-m", "harness", "replay", "recordings/demo.jsonl", "--mode", "userspace", "--speed", "1"]
WAIT_SECONDS = 60


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_a_run(kernel_namespaces, ending):
    harness = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    proxies = until(lambda: [p for p in below(harness.pid) if "engine.kernel.userspace.server" in p.cmdline()])
    harness.send_signal(ending)
    harness.communicate(timeout=WAIT_SECONDS)
    assert until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in proxies))


def test_userspace_is_rejected_where_processes_could_outlive_a_run(namespace):
    place = Place("netns", namespace.socket, namespace.run)
    with pytest.raises(KernelError, match="only whole connections"), userspace.real(place):
        pass


def below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def until(condition):
    """The condition's first true value; fails if it is not true in time."""
    limit = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < limit:
        try:
            found = condition()
        except psutil.Error:
            found = None
        if found:
            return found
        time.sleep(0.01)
    pytest.fail(f"not within {WAIT_SECONDS} s")
