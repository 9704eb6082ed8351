"""Starts a lab from outside, waits until it is ready, ends it; nothing of it outlives its first process.

`unshare --kill-child` makes the supervisor process 1 of a PID namespace: when it ends the kernel ends all
others, and with them the network namespaces.  All that stays is the folder.
"""

from __future__ import annotations

import fcntl
import json
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

from harness.lab.control import FACTS, SOCKET, LabClient, LabError
from harness.lab.topology import LabOptions
from harness.modes import module_of

LOG, OPTIONS, RECORDING = "supervisor.log", "options.json", "events.jsonl"
START_SECONDS, STOP_SECONDS = 120.0, 20.0
_NEEDED = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2", "sysctl": "procps", "mount": "mount"}


def default_folder() -> Path:
    """Where the lab is kept when nothing else is said: a folder of this user."""
    base = os.environ.get("XDG_RUNTIME_DIR") or f"{tempfile.gettempdir()}/kube-proxy-harness-{os.getuid()}"
    return Path(base) / "kube-proxy-lab"


def start(options: LabOptions, folder: Path, tell: Callable[[str], None], detach: bool = False) -> LabClient:
    """Start a lab and wait until it is ready; LabError when it does not get so, with nothing left behind.

    Unless `detach`, it ends when this process does.
    """
    _require(options.mode)
    locked = _take(folder)
    locked.write(msgspec.json.encode(options))
    locked.flush()
    user = os.geteuid() != 0 or options.mode != "ipvs"
    facts = {"user_namespace": user, "options": msgspec.to_builtins(options)}
    told, telling = os.pipe()
    lifeline, held = os.pipe()
    passed = [telling] if detach else [telling, lifeline]
    command = ["unshare", f"-{'Ur' if user else ''}nmpf", "--mount-proc", "--kill-child=KILL", sys.executable, "-m"]
    command += ["harness.lab.supervisor", str(folder), *map(str, passed)]
    with open(folder / LOG, "wb") as log:
        process = subprocess.Popen(
            command,
            pass_fds=[*passed, locked.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    locked.close()
    os.close(telling)
    os.close(lifeline)
    try:
        _await_ready(told, tell, folder)
        facts["pid"] = _peer(folder / SOCKET)
        (folder / FACTS).write_text(json.dumps(facts))
        client = LabClient(folder)
    except BaseException:
        process.kill()
        process.wait()
        os.close(held)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.close(told)
    if detach:
        os.close(held)
    else:
        client.lifeline = held
        client.process = process
    return client


def stop(folder: Path, keep_recording: str | None = None) -> None:
    """End a folder's lab and take the folder away, its recording kept where asked; LabError when there is none."""
    client = LabClient(folder)
    pid = client.facts["pid"]
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        watched = None
    if watched is not None:
        try:
            _end(client, watched)
        finally:
            os.close(watched)
    if getattr(client, "process", None):
        client.process.wait()
    if keep_recording:
        shutil.copyfile(folder / RECORDING, keep_recording)
    shutil.rmtree(folder)


def _end(client: LabClient, watched: int) -> None:
    try:
        client.call("stop")
    except LabError:
        signal.pidfd_send_signal(watched, signal.SIGKILL)
    if not select.select([watched], [], [], STOP_SECONDS)[0]:
        signal.pidfd_send_signal(watched, signal.SIGKILL)
        select.select([watched], [], [], STOP_SECONDS)


@contextmanager
def lab(options: LabOptions, folder: Path, tell: Callable[[str], None] = lambda _: None) -> Iterator[LabClient]:
    """A lab for as long as the block runs."""
    client = start(options, folder, tell)
    try:
        yield client
    finally:
        os.close(client.lifeline)
        try:
            client.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            client.process.kill()
            client.process.wait()


def _require(mode: str) -> None:
    needed = _NEEDED | module_of(mode).COMMANDS
    missing = sorted({package for tool, package in needed.items() if not shutil.which(tool)})
    if missing:
        raise LabError(f"a lab in mode {mode} needs {', '.join(missing)}; install: apt-get install {' '.join(missing)}")


def _take(folder: Path) -> BinaryIO:
    """Make the folder ours: refuse when a lab runs or starts in it, sweep what a dead one left; its options' file.

    The file is locked for as long as any process has it open, so that the lock ends with the lab, however it ends.
    """
    if (folder / OPTIONS).exists():
        with open(folder / OPTIONS, "rb") as left:
            _lock(left, folder)
            shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise LabError(f"{folder} holds other things; name an empty folder or one that does not exist yet")
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    taken = open(folder / OPTIONS, "ab")
    _lock(taken, folder)
    return taken


def _lock(file: BinaryIO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise LabError(
            f"a lab runs in {folder} already (or starts, or ends); end it by `harness lab down`, or name another --lab"
        ) from None


def _await_ready(told: int, tell: Callable[[str], None], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    text = b""
    while time.monotonic() < deadline:
        if not select.select([told], [], [], 0.5)[0]:
            continue
        chunk = os.read(told, 4096)
        *lines, text = (text + chunk).split(b"\n")
        for line in map(bytes.decode, lines):
            if line == "ready":
                return
            if line.startswith("failed: "):
                raise LabError(line.removeprefix("failed: "))
            tell(line)
        if not chunk:
            break
    words = (folder / LOG).read_bytes()[-1500:].decode(errors="replace").strip()
    raise LabError(
        f"the lab did not start: {words or 'no answer in time'}; allow unprivileged user namespaces, or run as root"
    )


def _peer(path: Path) -> int:
    """The process that listens on a socket, as this PID namespace numbers it."""
    from harness.lab.control import _connect

    with socket.socket(socket.AF_UNIX) as sock:
        _connect(sock, path)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder)
