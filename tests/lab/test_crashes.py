"""A lab's folder and processes after kills, interruptions and second starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.lab.control import LabClient, LabError
from harness.lab.dataplane.engines import written
from harness.lab.launch import lab, start, stop
from harness.lab.topology import LabOptions
from tests.waiting import until as eventually

from .conftest import curl, marked

pytestmark = [pytest.mark.usefixtures("kernel_namespaces"), pytest.mark.xdist_group("lab")]
SMALL = LabOptions(nodes=1, pods=1)


def up(folder: Path) -> subprocess.Popen:
    """`harness lab up` as a process of its own."""
    command = [sys.executable, "-m", "harness", "lab", "up", "--nodes", "1", "--pods", "2", "--lab", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("line", "number", "code"),
    [
        ("network", signal.SIGINT, 130),
        ("pods", signal.SIGTERM, 143),
        ("network", signal.SIGKILL, -signal.SIGKILL),
        ("pods", signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_a_start_that_is_interrupted_leaves_nothing_running(tmp_path, line, number, code):
    process = up(tmp_path / "lab")
    for printed in process.stderr:
        if line in printed:
            break
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    eventually(lambda: not marked(tmp_path))
    if number is not signal.SIGKILL:
        assert not (tmp_path / "lab").exists()
        return
    with lab(SMALL, tmp_path / "lab") as client:  # what was left is swept
        assert client.status().mode == "nftables"


def test_a_lab_whose_supervisor_was_killed_is_reported_and_can_be_ended(tmp_path):
    folder = tmp_path / "lab"
    client = start(SMALL, folder, lambda line: None, detach=True)
    os.kill(client.facts.pid, signal.SIGKILL)
    eventually(lambda: not marked(tmp_path))
    with pytest.raises(LabError, match="does not answer"):
        LabClient(folder).status()
    stop(folder)
    assert not folder.exists()


def test_two_labs_are_independent_and_a_folder_holds_one(tmp_path):
    with lab(SMALL, tmp_path / "one") as one, lab(SMALL, tmp_path / "two") as two:
        two.perform("pod.signal", pod="web-1", number="SIGKILL")
        eventually(lambda: not curl(two, "client", "http://10.10.0.11:30080/"))
        assert curl(one, "client", "http://10.10.0.11:30080/").startswith("web-1")
        with pytest.raises(LabError, match="already"):
            start(SMALL, tmp_path / "one", lambda line: None)
        assert curl(one, "client", "http://10.10.0.11:30080/").startswith("web-1")


def test_a_folder_is_locked_from_the_start_of_a_lab(tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def slowly(line: str) -> None:
        begun.set()
        assert go_on.wait(60)

    made = []
    first = threading.Thread(target=lambda: made.append(start(SMALL, tmp_path / "lab", slowly, detach=True)))
    first.start()
    try:
        assert begun.wait(60)
        with pytest.raises(LabError, match="starting or stopping"):
            start(SMALL, tmp_path / "lab", lambda line: None)
    finally:
        go_on.set()
        first.join(60)
    assert made[0].status().nodes
    stop(tmp_path / "lab")


def test_a_lab_needs_no_privileges_but_user_namespaces(tmp_path):
    """Everything by a user who is not root, which root is too in a namespace where it is somebody else."""
    lower = ["unshare", "-U", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
    words = f"{sys.executable} -m harness lab"
    script = f"""set -e; F="--lab {tmp_path}/lab"
        test $(id -u) != 0
        {words} up $F --nodes 2 --pods 2
        for i in 1 2 3 4; do {words} exec $F client -- curl -s -m 5 http://10.10.0.11:30080/; done
        {words} exec $F node-1 -- nft list table ip kube-proxy
        {words} down $F"""
    done = subprocess.run([*lower, "sh", "-c", script], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nweb-") == 4
    assert "table ip kube-proxy" in done.stdout
    eventually(lambda: not marked(tmp_path))


def test_an_engine_has_written_its_rules_when_it_has_those_of_every_family():
    name = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
    four, six, none = (
        f'{name}{{ip_family="IPv4"}} 1.7e+09',
        f'{name}{{ip_family="IPv6"}} 1.7e+09',
        f'{name}{{ip_family="IPv6"}} 0.0',
    )
    assert written(f"# TYPE {name} gauge\n{four}\n{six}\n")
    assert not written(f"{four}\n{none}\n") and not written("")
