"""A lab on another kernel: in a virtual machine that runs as long as this process, reached through a socket.

    harness lab exec ... --lab FOLDER -> FOLDER.machine -> this process -> guest: the same command inside

One JSON object per line: `{"arguments": [...]}` -> `{"stream": 1 or 2, "text": ...}`... `{"code": N}`, text as Latin-1.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from harness import handover
from harness.lab.control import LabError
from harness.places import vm

START_SECONDS = 1200
"""Time limit for starting the machine and its lab, even if emulated on a busy host."""
ASK_SECONDS = 10.0
"""Time limit for a client to send its request."""
LOOK_SECONDS = 1.0
"""Interval of checks that the machine is still running while there are no requests."""
_HARNESS = [sys.executable, "-m", "harness"]


def socket_of(folder: Path) -> Path:
    """The socket of a lab in a machine; it exists as long as the machine."""
    return folder.with_name(f"{folder.name}.machine")


def serve(
    image: str, folder: Path, up: Sequence[str], ready: Callable[[], object], progress: Callable[[str], object]
) -> int:
    """Boot, start the lab with `harness UP...` inside, call `ready`, and serve until a stop; returns the exit code.

    VmError if the machine does not start or ends; LabError if a lab is already running.
    """
    path = socket_of(folder)
    with _listening(path) as listener:
        try:
            with vm.booted(image, memory_mib=4096, limits=vm.TimeLimit(START_SECONDS), progress=progress) as guest:
                if code := guest.run([*_HARNESS, *up], limits=vm.TimeLimit(START_SECONDS)):
                    return code
                ready()
                while True:
                    guest.check()
                    with suppress(TimeoutError):  # no request: check that the machine still runs
                        client, _ = listener.accept()
                        if not _answer(client, guest):
                            return 0
        finally:
            path.unlink(missing_ok=True)


def ask(folder: Path, arguments: Sequence[str], stop: bool = False) -> int | None:
    """The exit code of `harness ARGUMENTS...` in the machine of the folder's lab; None if it is not in a machine.

    The output is forwarded to ours.  `stop`: the machine ends afterwards.  LabError if it does not answer.
    """
    path = socket_of(folder)
    if vm.inside() or not path.exists():
        return None
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
            sock.sendall(json.dumps({"arguments": list(arguments), "stop": stop}).encode() + b"\n")
            for line in sock.makefile("rb"):
                answer = json.loads(line)
                if "code" in answer:
                    return int(answer["code"])
                os.write(answer["stream"], answer["text"].encode("latin-1"))
        except OSError as error:
            raise LabError(f"the lab's virtual machine does not answer on {path}: {error.strerror or error}") from None
    raise LabError(f"the lab's virtual machine ended; remove {path} if it still exists")


def _listening(path: Path) -> socket.socket:
    """The socket, accessible only to this user; LabError if another machine listens there."""
    path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    if not handover.free(lambda: _listens(path)):
        sock.close()
        raise LabError(f"a lab is already running there in a virtual machine; stop it with `harness lab down`; {path}")
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
    finally:
        os.umask(before)
    sock.listen()
    sock.settimeout(LOOK_SECONDS)
    return sock


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as other:
        return other.connect_ex(str(path)) == 0


def _answer(client: socket.socket, guest: vm.Guest) -> bool:
    """Execute one command; returns whether to continue serving."""
    with client:
        client.settimeout(ASK_SECONDS)
        try:
            request = json.loads(client.makefile("rb").readline())
        except (OSError, ValueError):
            return True  # the client sent no request
        client.settimeout(None)
        limits = vm.TimeLimit(stopped=_end_when_gone(client, guest))
        try:
            code = guest.run(
                [*_HARNESS, *request["arguments"]], stdout=_sink(client, 1), stderr=_sink(client, 2), limits=limits
            )
            client.sendall(json.dumps({"code": code}).encode() + b"\n")
        except OSError:
            pass  # the client has gone
        return not request["stop"]


def _sink(client: socket.socket, stream: int) -> Callable[[bytes], None]:
    def send(data: bytes) -> None:
        try:
            client.sendall(json.dumps({"stream": stream, "text": data.decode("latin-1")}).encode() + b"\n")
        except OSError:
            pass  # the client is gone; the command gets a signal

    return send


def _end_when_gone(client: socket.socket, guest: vm.Guest) -> Callable[[], bool]:
    """A check to be made while a command runs: if its client is gone, the command is terminated."""
    signalled = False

    def look() -> bool:
        nonlocal signalled
        try:
            gone = client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        if gone and not signalled:
            signalled = True
            guest.signal(signal.SIGTERM)
        return False

    return look
