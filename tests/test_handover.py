"""A killed command can be restarted at once, while the kernel is still ending the killed process."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import handover
from harness.apiserver.live import LiveStore
from harness.apiserver.server import listening
from harness.apiserver.settings import ServerSettings
from harness.cli.following import live_figures
from harness.lab import launch, machine
from harness.log.journal import LogFile
from harness.log.kafka.broker import Broker

from .waiting import until

DYING = """
import ctypes, fcntl, sys, threading
held = open(sys.argv[1], "ab")
fcntl.flock(held, fcntl.LOCK_EX)
threading.Thread(target=sys.stdin.read).start()
print("held", flush=True)
ctypes.CDLL(None).syscall(60, 0)  # the first thread ends, and with it the command line; the process goes on
"""


@pytest.fixture
def dying():
    """Starts a process without a command line that holds a file's lock; ends it when called for the second time."""
    begun: list[subprocess.Popen[bytes]] = []

    def hold(path: Path) -> subprocess.Popen[bytes]:
        path.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-c", DYING, str(path)]
        begun.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert begun[0].stdout.readline() == b"held\n"
        until(lambda: not Path(f"/proc/{begun[0].pid}/cmdline").read_bytes(), "the process to lose its command line")
        return begun[0]

    yield hold
    for process in begun:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Let it end, as a signal would."""
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


def at_first_pause(monkeypatch, happens) -> None:
    """What the first pause between two attempts brings about."""
    monkeypatch.setattr(handover, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: happens()))


@pytest.mark.parametrize(
    ("file", "take"),
    [
        ("run.jsonl", lambda folder: LogFile(folder / "run.jsonl").close()),
        ("options.json", lambda folder: launch._take(folder).close()),
    ],
)
def test_a_lock_that_a_killed_process_still_holds_is_waited_for(dying, monkeypatch, tmp_path, file, take):
    process = dying(tmp_path / "lab" / file)
    at_first_pause(monkeypatch, lambda: end(process))
    take(tmp_path / "lab")
    assert process.returncode == 0


def test_a_lock_that_stays_held_is_refused(tmp_path):
    with open(tmp_path / "x", "ab") as one, open(tmp_path / "x", "ab") as two:
        handover.lock(one)
        with pytest.raises(BlockingIOError):
            handover.lock(two, seconds=0)


def test_a_killed_broker_is_waited_for(dying, monkeypatch, tmp_path):
    process = dying(tmp_path / ".lock")
    (tmp_path / "pid").write_text(str(process.pid))
    real = handover.select.select

    def ends(*arguments):
        end(process)
        return real(*arguments)

    monkeypatch.setattr(handover.select, "select", ends)
    Broker(tmp_path)._await_a_killed_one()
    with open(tmp_path / ".lock", "ab") as data:
        fcntl.flock(data, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_socket_of_a_killed_machine_is_waited_for(monkeypatch, tmp_path):
    path = tmp_path / "lab.machine"
    killed = machine._listening(path)
    at_first_pause(monkeypatch, killed.close)
    machine._listening(path).close()


def test_a_port_that_a_killed_process_still_holds_is_waited_for(monkeypatch):
    killed = socket.create_server(("127.0.0.1", 0))
    at_first_pause(monkeypatch, killed.close)
    with live_figures(True, port := killed.getsockname()[1], "nftables"):
        assert socket.create_connection(("127.0.0.1", port), 10)


def test_the_port_of_a_killed_server_is_waited_for(monkeypatch):
    killed = socket.create_server(("127.0.0.1", 0))
    port = killed.getsockname()[1]
    pause = asyncio.sleep

    async def ended(_seconds: float) -> None:
        killed.close()
        await pause(0)

    async def served() -> str:
        async with listening(LiveStore(), ServerSettings(port=port)) as address:
            return address.url

    monkeypatch.setattr(handover.asyncio, "sleep", ended)
    assert asyncio.run(served()) == f"http://127.0.0.1:{port}"
