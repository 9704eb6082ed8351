"""Debian's user-mode Linux: a kernel with IP_VS as a process, on the host's own files.

    run(command) -> linux.uml -> uml_init.sh -> command, in a kernel of its own
         ^ standard output and error by two serial lines, exit code by a file

The root is the host's, read-only; directories named `writable` are not.  Nothing survives: the
kernel is a process group that ends with this process, however that ends.
"""

from __future__ import annotations

import math
import os
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

INIT = Path(__file__).with_name("uml_init.sh")
MODULES = Path("/usr/lib/uml/modules")
INSIDE = "HARNESS_UML"
"""Set in the environment of every command that runs inside."""

_KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TZ", "NO_COLOR")
# When standard input, which only the harness holds open, reaches its end, the group dies with it.
_WATCH = 'exec 9<&0; (cat <&9 >/dev/null; kill -KILL 0) & exec "$@" 9<&- </dev/null'
_GRACE_SECONDS = 20

Sink = Callable[[bytes], object]


class UmlError(RuntimeError):
    """User-mode Linux is not installed, or its kernel did not come up; the message says what to do."""


def inside() -> bool:
    """Whether this process runs in the kernel that `run` boots."""
    return INSIDE in os.environ


def installed() -> bool:
    """Whether `run` can work here."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return bool(shutil.which("linux.uml") and shutil.which("modprobe", path=path)) and MODULES.is_dir()


def run(
    command: Sequence[str],
    *,
    memory_mib: int = 2048,
    writable: Sequence[str] = (),
    environment: dict[str, str] | None = None,
    stdin: bytes = b"",
    stdout: Sink | None = None,
    stderr: Sink | None = None,
    limit_seconds: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Run `command` inside, in this directory; its exit code. Output goes to the sinks, ours by default.

    UmlError when the kernel does not come up, or has not ended after `limit_seconds` or when it is `stopped`,
    which another thread may say: then it is killed.
    """
    if not installed():
        raise UmlError("user-mode Linux is not installed (Debian packages user-mode-linux and kmod)")
    with tempfile.TemporaryDirectory(prefix="harness-uml-") as exchange:
        _prepare(Path(exchange), command, writable, environment or {})
        Path(exchange, "stdin").write_bytes(stdin)
        sinks = stdout or _write_to(sys.stdout), stderr or _write_to(sys.stderr)
        console = _boot(exchange, memory_mib, sinks, limit_seconds, stopped)
        try:
            return int(Path(exchange, "exit").read_text())
        except (OSError, ValueError):
            lines = console.decode(errors="replace").strip().splitlines()[-5:]
            raise UmlError("the user-mode kernel ended before its command did: " + " / ".join(lines)) from None


def _prepare(exchange: Path, command: Sequence[str], writable: Sequence[str], extra: dict[str, str]) -> None:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    settings = {**kept, INSIDE: "1", "TMPDIR": "/run", "PYTHONDONTWRITEBYTECODE": "1", **extra}
    settings["PATH"] = f"{settings.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    variables = [f"{name}={value}" for name, value in sorted(settings.items())]
    line = shlex.join(["env", "-i", *variables, *command])
    (exchange / "command").write_text(f"cd {shlex.quote(os.getcwd())} && exec {line}\n")
    (exchange / "mounts").write_text("".join(f"{os.path.abspath(directory)}\n" for directory in writable))


def _boot(exchange: str, memory_mib: int, sinks: tuple[Sink, Sink], limit_seconds: float | None, stopped) -> bytes:
    """Boot, pump the lines until the kernel has ended; what it wrote on its console."""
    pairs = [socket.socketpair() for _ in range(3)]
    ours, theirs = zip(*pairs, strict=True)
    numbers = [end.fileno() for end in theirs]
    process = subprocess.Popen(
        ["sh", "-c", _WATCH, "sh", *_kernel_command(exchange, memory_mib, numbers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=numbers,
        start_new_session=True,
    )
    console = bytearray()
    try:
        for end in theirs:
            end.close()
        _pump(process, dict(zip(ours, (console.extend, *sinks), strict=True)), limit_seconds, stopped)
    finally:
        _end(process)
        for end in ours:
            end.close()
    return bytes(console)


def _kernel_command(exchange: str, memory_mib: int, numbers: list[int]) -> list[str]:
    console, out, err = numbers
    return [
        "linux.uml", f"mem={memory_mib}M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet",
        "init=/bin/sh", f"EXCHANGE={exchange}", f"uml_dir={exchange}/", "con=null", f"con0=fd:{console},fd:{console}",
        "ssl=null", f"ssl1=fd:{out},fd:{out}", f"ssl2=fd:{err},fd:{err}", "--", str(INIT),
    ]  # fmt: skip


def _pump(process: subprocess.Popen, sinks: dict[socket.socket, Sink], limit_seconds: float | None, stopped) -> None:
    """Pass bytes on until the kernel has ended and every line is empty."""
    until = math.inf if limit_seconds is None else time.monotonic() + limit_seconds
    with selectors.DefaultSelector() as selector:
        for end in sinks:
            selector.register(end, selectors.EVENT_READ)
        ended = False
        while selector.get_map():
            if time.monotonic() > until:
                raise UmlError(f"the user-mode kernel's command had not ended after {limit_seconds:g} s")
            if stopped():
                raise UmlError("the user-mode kernel was stopped before its command had ended")
            ready = selector.select(0 if ended else 0.1)
            if ended and not ready:
                return
            for key, _ in ready:
                data = key.fileobj.recv(1 << 16)
                if data:
                    sinks[key.fileobj](data)
                else:
                    selector.unregister(key.fileobj)
            ended = ended or process.poll() is not None


def _end(process: subprocess.Popen) -> None:
    """Kill what is left of the process group: the kernel's helpers, and the watcher."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.stdin.close()
    process.wait(_GRACE_SECONDS)


def _write_to(stream) -> Sink:
    def write(data: bytes) -> None:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()

    return write
