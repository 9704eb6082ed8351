"""Process 1 of the machine once its files are mounted: runs commands sent by the host and returns their output.

Frames both ways on one serial port: a letter, the length in four bytes, the data.

    host  -> i standard input   c command (JSON)   s signal (its number)
    guest -> h here             o, e output        x exit code

Needs only Python's standard library: `python -I -S`.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import termios
import tty

PORTS = "/sys/class/virtio-ports"
NAME = "harness"
CHUNK = 1 << 15
MODULES = ("ip_tables", "ip6_tables")
"""Of iptables' legacy variant."""
AFTER_SECONDS = 0.2
"""How long to wait for output of processes that the command left running."""


def main() -> None:
    """Serve forever: the host ends the machine."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _loopback()
    _load_modules()
    port = FramePort(_port())
    port.send(b"h")
    stdin = _file()
    while True:
        kind, data = port.receive()
        if kind == b"i":
            stdin.write(data)
        elif kind == b"c":
            stdin.seek(0)
            _run(port, stdin, **json.loads(data))
            stdin = _file()


def _file() -> io.FileIO:
    return os.fdopen(os.memfd_create("stdin"), "w+b", buffering=0)


def _loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        name = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack_from("16sh", fcntl.ioctl(sock, 0x8913, name))[1]
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))


def _load_modules() -> None:
    """Load modules that tools load on demand, which is not possible in a user namespace; some may not exist."""
    path = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    for module in MODULES:
        subprocess.run(["modprobe", "-q", module], env={"PATH": path}, check=False)


def _port() -> int:
    """The serial port's descriptor."""
    for entry in os.listdir(PORTS):
        with open(f"{PORTS}/{entry}/name") as file:
            if file.read().strip() == NAME:
                return os.open(f"/dev/{entry}", os.O_RDWR | os.O_CLOEXEC)
    raise LookupError(f"no serial port named {NAME}")


class FramePort:
    """Frames over a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor, for a selector."""
        return self.descriptor

    def send(self, kind: bytes, data: bytes = b"") -> None:
        """Send one frame."""
        left = memoryview(kind + len(data).to_bytes(4, "big") + data)
        while left:
            left = left[os.write(self.descriptor, left) :]

    def receive(self) -> tuple[bytes, bytes]:
        """Receive one frame; the machine ends if the host is gone."""
        head = self._exactly(5)
        return head[:1], self._exactly(int.from_bytes(head[1:], "big"))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = os.read(self.descriptor, size - len(data))
            if not chunk:
                _power_off()
            data += chunk
        return data


def _power_off() -> None:
    with open("/proc/sysrq-trigger", "w") as trigger:
        trigger.write("o")
    signal.pause()


def _run(
    port: FramePort,
    stdin: io.FileIO,
    command: list[str],
    cwd: str,
    environment: dict[str, str],
    terminals: list[list[int] | None],
    host: str,
) -> None:
    """Run one command and send its exit code; `terminals` has [rows, columns] or None for each of its two outputs."""
    socket.sethostname(host)
    outputs = [_output(size) for size in terminals]
    try:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=stdin, stdout=outputs[0][1], stderr=outputs[1][1],
            start_new_session=True, restore_signals=True, preexec_fn=_default_signals,
        )  # fmt: skip
    except OSError as error:
        port.send(b"e", f"{command[0]}: {error.strerror}\n".encode())
        port.send(b"x", b"127")
        return
    for _, theirs in outputs:
        os.close(theirs)
    code = _pump(port, process, {ours: letter for (ours, _), letter in zip(outputs, (b"o", b"e"), strict=True)})
    os.sync()
    port.send(b"x", str(code).encode())


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _output(size: list[int] | None) -> tuple[int, int]:
    """Our end and the command's end of a pipe, or of a raw terminal of the given size."""
    if size is None:
        return os.pipe()
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
    return ours, theirs


def _pump(port: FramePort, process: subprocess.Popen[bytes], outputs: dict[int, bytes]) -> int:
    """Forward everything until the command and its output have ended; returns its exit code as a shell would."""
    ended, ending = None, os.pipe()
    os.set_blocking(ending[1], False)
    signal.set_wakeup_fd(ending[1], warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        sources: list[int | FramePort] = [*outputs, port, ending[0]]
        for source in sources:
            selector.register(source, selectors.EVENT_READ)
        left = set(outputs)
        while True:
            ready = selector.select(AFTER_SECONDS if ended is not None else None)
            for key, _ in ready:
                if key.fd in left and not _pass_on(port, key.fd, outputs[key.fd]):
                    selector.unregister(key.fd)
                    left.remove(key.fd)
                elif key.fileobj is port:
                    _told(process, *port.receive())
                elif key.fd == ending[0]:
                    os.read(ending[0], CHUNK)
            ended = _reap(process.pid, ended)
            if ended is not None and (not left or not ready):
                break
    signal.set_wakeup_fd(-1)
    for descriptor in (*outputs, *ending):
        os.close(descriptor)
    return ended if ended >= 0 else 128 - ended


def _pass_on(port: FramePort, descriptor: int, letter: bytes) -> bool:
    """Forward available output; returns whether more may follow."""
    try:
        data = os.read(descriptor, CHUNK)
    except OSError:  # a terminal that is no longer open
        data = b""
    if data:
        port.send(letter, data)
    return bool(data)


def _told(process: subprocess.Popen[bytes], kind: bytes, data: bytes) -> None:
    if kind == b"s":
        try:
            os.killpg(process.pid, int(data))
        except ProcessLookupError:
            pass  # it has ended


def _reap(pid: int, ended: int | None) -> int | None:
    """Reap all ended processes, as process 1 must; returns the command's result once it is among them."""
    while True:
        try:
            found, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if found == 0:
            return ended
        if found == pid:
            ended = os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.stderr = open("/dev/console", "w")
    main()
