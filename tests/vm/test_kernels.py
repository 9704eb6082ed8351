"""A small recording on other kernels: the same digest as in memory, and verified, in every mode.

Emulation takes some 30 times as long as the host's own kernel; larger recordings are for `make kernels`.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.kernel.netlink import NETFILTER, Connection, NetlinkError
from harness.cli import main
from harness.places.namespace import Namespace

from ..netlink.sockets import NFT, delete_chain, get_table, new_chain, new_table

RECORDING = str(Path(__file__).with_name("data") / "small.jsonl")
"""Every kind of Service, of both families."""
SYNTH = "--services 5 --churn 10 --nodes 2 --dual-stack --rich --seed 1".split()
"""What made it, which takes seconds when emulated."""
AT_BOTH_ENDS = ["--check-every", "1000"]
NEWER = "linux-image-6.12-amd64"
MODES = {
    "nftables": [],
    "iptables-nft": ["--mode", "iptables", "--iptables-variant", "nft"],
    "iptables-legacy": ["--mode", "iptables", "--iptables-variant", "legacy"],
    "ipvs": ["--mode", "ipvs"],
    "userspace": ["--mode", "userspace"],
}


CASES = [(mode, "readback") for mode in MODES if mode != "userspace"] + [("nftables", "full"), ("userspace", "full")]
"""With packets (full) it takes twice as long, more than every run can wait for."""

pytestmark = pytest.mark.timeout(900)


@contextmanager
def without_protocol_names() -> Iterator[None]:
    """A machine that lacks package netbase, as a slim container."""
    subprocess.run(["mount", "--bind", "/dev/null", "/etc/protocols"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "/etc/protocols"], check=True)


def digest(mode: str) -> str:
    """As the engine alone makes it, whatever the kernel."""
    options = [option for option in MODES[mode] if option not in ("--iptables-variant", "nft", "legacy")]
    command = ["replay", RECORDING, *options, "--kernel", "memory", "--verify", "none", "--json", "-"]
    return json.loads(CliRunner().invoke(main, command).stdout)["digest"]


def test_the_recording_is_made_again(tmp_path):
    assert CliRunner().invoke(main, ["synth", str(tmp_path / "r.jsonl"), *SYNTH]).exit_code == 0
    assert (tmp_path / "r.jsonl").read_bytes() == Path(RECORDING).read_bytes()


@pytest.mark.vm
@pytest.mark.parametrize(
    ("mode", "verify"),
    [pytest.param(*case, marks=() if case[1] == "full" else pytest.mark.vm_quick, id="-".join(case)) for case in CASES],
)
def test_the_distribution_s_kernel(mode, verify):
    """In one process: emulated, an interpreter that starts takes as long as a replay."""
    options = [*AT_BOTH_ENDS, *MODES[mode], "--verify", verify, "--kernel", "netns", "--json", "-"]
    with without_protocol_names() if mode == "ipvs" else nullcontext():
        done = CliRunner().invoke(main, ["replay", RECORDING, *options])
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kernel"]["release"] == platform.release()
    assert result["kernel"]["machine"] in ("kvm", "tcg")
    assert result["verified"] is True
    assert (result["connections"] > 0) == (verify == "full")
    assert result["digest"] == digest(mode)


@pytest.mark.vm
@pytest.mark.vm_quick
def test_a_transaction_is_acknowledged():
    """Also where the end of a batch is never answered, as before about 6.10; a refusal does not shift the answers."""
    with Namespace() as place, place.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as sock:
        connection = Connection(sock, answer_seconds=60)
        assert connection.transaction([new_table("first"), new_chain("first", "c")], NFT) > 0
        with pytest.raises(NetlinkError) as refused:
            connection.transaction([new_chain("first", "d"), delete_chain("first", "x")], NFT)
        assert [(each.index, each.code) for each in refused.value.refusals] == [(1, errno.ENOENT)]
        connection.transaction([new_table("second")], NFT)
        assert connection.ask(get_table("first")) and connection.ask(get_table("second"))


@pytest.mark.vm(boots=True)
def test_a_newer_one_by_the_name_of_its_package(tmp_path):
    """Result, page, exit code and output file come out as if it had run here."""
    out, wanted = tmp_path / "result.json", digest("nftables")
    options = [*AT_BOTH_ENDS, "--kernel", f"vm:{NEWER}", "--json", str(out), "--expect-digest", "0" * 64]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "replay", RECORDING, *options], capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    assert f"gate: digest {wanted}" in done.stderr
    result = json.loads(out.read_text())
    assert result["kernel"]["release"].startswith("6.12.")
    assert result["verified"] is True
    assert result["digest"] == wanted
    assert f"Linux {result['kernel']['release']}" in done.stdout
    assert os.listdir(tmp_path) == [out.name]


@pytest.mark.vm(boots=True)
def test_a_lab_on_another_kernel(tmp_path):
    """Up in the foreground, reached from outside by the commands of any lab, and gone with its machine."""
    folder = tmp_path / "lab"
    here = [sys.executable, "-m", "harness", "lab"]
    small = "--nodes 1 --pods 1 --probe-period 5 --probe-timeout 20".split()
    up = [*here, "up", "--lab", str(folder), *small, "--kernel", "vm"]
    with subprocess.Popen(up, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("ready"):
                break
        else:
            pytest.fail("".join(said))

        def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*here, *arguments], capture_output=True, text=True)

        where = ["--lab", str(folder)]
        release = lab("exec", *where, "client", "--", "uname", "-r")
        assert release.stdout.startswith("6.1."), release.stderr
        failing = lab("exec", *where, "node-1", "--", "sh", "-c", "echo bad >&2; exit 7")
        assert (failing.returncode, failing.stderr) == (7, "bad\n")
        answer = lab("exec", *where, "client", "--", "curl", "-s", "http://10.10.0.11:30080/")
        assert "web-1" in answer.stdout, answer.stderr
        assert json.loads(lab("status", *where, "--json").stdout)["nodes"][0]["engine_healthy"] is True
        assert lab("down", *where).returncode == 0
        assert process.wait(60) == 0
    assert os.listdir(tmp_path) == []
    gone = lab("status", *where)
    assert gone.returncode == 1 and "no lab in" in gone.stderr
