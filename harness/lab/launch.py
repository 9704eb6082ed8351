"""Starts a lab, waits until it is ready, and stops it; nothing of it outlives its first process.

`unshare --kill-child` makes the supervisor process 1 of a PID namespace: when it ends, the kernel ends all other
processes, and with them the network namespaces.  Only the folder remains.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from harness import handover
from harness.extras import missing as missing_package
from harness.lab.answers import LabFacts
from harness.lab.control import FACTS, SOCKET, LabClient, LabError
from harness.lab.dataplane.processes import prefer
from harness.lab.topology import LabOptions
from harness.modes import mode_of
from harness.places import vm
from harness.places.namespace import WAYS_OUT, in_words

LOG, OPTIONS, RECORDING = "supervisor.log", "options.json", "events.jsonl"
START_SECONDS, STOP_SECONDS = 120.0, 20.0
_NEEDED = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2", "sysctl": "procps"}


def default_folder() -> Path:
    """The default folder of a lab, in the user's state directory."""
    base = os.environ.get("XDG_RUNTIME_DIR") or f"{tempfile.gettempdir()}/kube-proxy-harness-{os.getuid()}"
    return Path(base) / "kube-proxy-lab"


def start(options: LabOptions, folder: Path, report: Callable[[str], None], detach: bool = False) -> LabClient:
    """Start a lab and wait until it is ready; LabError, with nothing left behind, if it does not become ready.

    Unless `detach`, it ends when this process does.
    """
    _require(options.mode)
    locked = _take(folder)
    locked.write(msgspec.json.encode(options))
    locked.flush()
    user = mode_of(options.mode).user_namespace
    ready_reader, ready_writer = os.pipe()
    lifeline, held = os.pipe()
    passed = [ready_writer] if detach else [ready_writer, lifeline]
    command = ["unshare", "-Ur"] if user else []  # first, as in harness.places.namespace
    command += ["unshare", "-nmpf", "--mount-proc", "--kill-child=KILL"]
    command += [sys.executable, "-m", "harness.lab.supervisor", str(folder), *map(str, passed)]
    with open(folder / LOG, "wb") as log:
        process = subprocess.Popen(
            command,
            pass_fds=[*passed, locked.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    prefer(process.pid)
    locked.close()
    os.close(ready_writer)
    os.close(lifeline)
    try:
        _await_ready(ready_reader, report, folder)
        facts = LabFacts(user, options, _peer(folder / SOCKET))
        (folder / FACTS).write_bytes(msgspec.json.encode(facts))
        client = LabClient(folder)
    except BaseException:
        process.kill()
        process.wait()
        os.close(held)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.close(ready_reader)
    if detach:
        os.close(held)
    else:
        client.lifeline = held
        client.process = process
    return client


def stop(folder: Path, keep_recording: str | None = None) -> None:
    """Stop a folder's lab and remove the folder, saving its recording if requested; LabError if there is none."""
    client = LabClient(folder)
    pid = client.facts.pid
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        watched = None
    if watched is not None:
        try:
            _end(client, watched)
        finally:
            os.close(watched)
    if client.process:
        client.process.wait()
    if keep_recording:
        shutil.copyfile(folder / RECORDING, keep_recording)
    shutil.rmtree(folder)


def _end(client: LabClient, watched: int) -> None:
    try:
        client.perform("stop")
    except LabError:
        signal.pidfd_send_signal(watched, signal.SIGKILL)
    if not select.select([watched], [], [], STOP_SECONDS)[0]:
        signal.pidfd_send_signal(watched, signal.SIGKILL)
        select.select([watched], [], [], STOP_SECONDS)


@contextmanager
def lab(options: LabOptions, folder: Path, report: Callable[[str], None] = lambda _: None) -> Iterator[LabClient]:
    """A lab within the context."""
    client = start(options, folder, report)
    try:
        yield client
    finally:
        process, lifeline = client.process, client.lifeline
        assert process and lifeline is not None, "it was not detached"
        os.close(lifeline)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _require(mode: str) -> None:
    if said := missing_package("kubernetes"):
        raise LabError(said)
    needed = {**_NEEDED, **mode_of(mode).commands}
    missing = sorted({package for tool, package in needed.items() if not shutil.which(tool)})
    if missing:
        raise LabError(f"a lab in mode {mode} needs {', '.join(missing)}; install: apt-get install {' '.join(missing)}")


def _take(folder: Path) -> BinaryIO:
    """Claim the folder and return its options file: refuse if a lab runs or starts in it, clean up after a dead one.

    The file is locked as long as any process has it open, so that the lock ends with the lab, however that ends.
    """
    if (folder / OPTIONS).exists():
        with open(folder / OPTIONS, "rb") as left:
            _lock(left, folder)
            shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise LabError(f"{folder} contains other files; choose an empty folder or one that does not exist")
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    taken = open(folder / OPTIONS, "ab")
    _lock(taken, folder)
    return taken


def _lock(file: BinaryIO, folder: Path) -> None:
    try:
        handover.lock(file, handover.HANDOVER_SECONDS * vm.patience())
    except BlockingIOError:
        file.close()
        raise LabError(
            f"a lab is already running, starting or stopping in {folder}; use `harness lab down`, or another --lab"
        ) from None


def _await_ready(ready_reader: int, report: Callable[[str], None], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS * vm.patience()
    text = b""
    while time.monotonic() < deadline:
        if not select.select([ready_reader], [], [], 0.5)[0]:
            continue
        chunk = os.read(ready_reader, 4096)
        *lines, text = (text + chunk).split(b"\n")
        for line in map(bytes.decode, lines):
            if line == "ready":
                return
            if line.startswith("failed: "):
                raise LabError(line.removeprefix("failed: "))
            report(line)
        if not chunk:
            break
    words = (folder / LOG).read_bytes()[-1500:].decode(errors="replace").strip()
    way_out = f"; {WAYS_OUT}" if "unshare" in words else ""
    raise LabError(f"the lab did not start: {in_words(words) or 'no answer in time'}{way_out}")


def _peer(path: Path) -> int:
    """The pid of the process that listens on a socket, in this PID namespace."""
    from harness.lab.control import connect

    with socket.socket(socket.AF_UNIX) as sock:
        connect(sock, path)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder)
