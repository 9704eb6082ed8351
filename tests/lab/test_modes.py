"""Labs in modes other than the kernel's usual ones: userspace, which has no rules; ipvs, which not every kernel has."""

from __future__ import annotations

import socket
import subprocess
import sys
from functools import partial

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.lab.answers import Observation
from harness.lab.dataplane import network
from harness.lab.launch import lab
from harness.lab.topology import LabOptions
from harness.modes import MODES, ipvs
from harness.places.place import Place
from tests.waiting import until as eventually

from .conftest import curl

pytestmark = pytest.mark.xdist_group("lab")

UDP = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(2)
    sock.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
    print(sock.recv(100).decode())
"""


@pytest.fixture(scope="module")
def sockets(kernel_namespaces, tmp_path_factory):
    """A lab in mode userspace."""
    options = LabOptions(nodes=2, pods=4, mode="userspace", min_sync_period_seconds=0.05)
    with lab(options, tmp_path_factory.mktemp("userspace") / "lab") as client:
        yield client


def test_in_userspace_every_service_address_reaches_every_pod(sockets):
    names = {pod.name for pod in sockets.status().pods}
    for where, url in [
        ("client", "http://10.10.0.11:30080/"), ("client", "http://198.51.100.10/"),
        ("caller-1", "http://10.112.0.10/"), ("node-2", "http://10.112.0.10/"), ("web-1", "http://10.112.0.10/"),
    ]:  # fmt: skip
        seen = {(curl(sockets, where, url).split() or ["nobody"])[0] for _ in range(12)}
        assert seen == names, (where, url)
    for where, address, port in [("client", "10.10.0.12", 30082), ("caller-2", "10.112.0.10", 82)]:
        done = sockets.run(where, [sys.executable, "-c", UDP, address, str(port)])
        assert done.stdout.startswith(b"web-"), (where, done.stderr)


def test_userspace_convergence_is_seen_in_sockets_and_survives_a_crash(sockets):
    status = sockets.status()
    pod = status.pods[0]
    sockets.perform("pod.health", pod=pod.name, word="fail")
    found = eventually(lambda: _gone(sockets, status.seconds, pod.address))
    assert {o.node for o in found} == {"node-1", "node-2"}
    assert all(0 <= o.seen - o.asked < 10 for o in found)
    sockets.perform("engine.signal", node="node-1", number="SIGKILL")
    eventually(lambda: not curl(sockets, "client", "http://10.10.0.11:30080/"))  # its sockets go with it
    sockets.perform("engine.start", node="node-1")
    eventually(lambda: curl(sockets, "client", "http://10.10.0.11:30080/"))
    assert pod.name not in {curl(sockets, "client", "http://10.10.0.11:30080/").split()[0] for _ in range(8)}


def _gone(client, since: float, address: str) -> list[Observation] | None:
    found = [o for o in client.observations(since) if o.address == address and o.seen]
    return found if len(found) == 2 else None


@pytest.mark.parametrize("mode", MODES)
def test_a_lab_s_recording_replays_in_every_mode(sockets, tmp_path, mode):
    recording = tmp_path / "events.jsonl"
    recording.write_bytes((sockets.folder / "events.jsonl").read_bytes())
    done = CliRunner().invoke(main, ["replay", str(recording), "--mode", mode, "--kernel", "memory"])
    assert done.exit_code == 0, done.output


def test_a_mode_that_the_kernel_lacks_is_rejected_at_once(kernel_namespaces, tmp_path):
    if ipvs.missing(Place("host", socket.socket, partial(network.run, None))) is None:
        pytest.skip("this kernel has IP_VS")
    command = [sys.executable, "-m", "harness", "lab", "up", "--mode", "ipvs", "--lab", str(tmp_path / "lab")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "mode ipvs: " in done.stderr
    assert "IP_VS" in done.stderr
    assert "--kernel vm" in done.stderr
    assert "engines" not in done.stderr, "nothing was started for it"
    assert not (tmp_path / "lab").exists()
