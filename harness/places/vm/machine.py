"""Boots QEMU for a command, forwards its output, and ends it."""

from __future__ import annotations

import json
import math
import os
import selectors
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from harness.home import cache_folder
from harness.places.vm.image import DEFAULT, Image, VmError, cache, resolve
from harness.places.vm.initramfs import SharedFolder, build

GUEST = Path(__file__).with_name("guest.py")
INSIDE = "HARNESS_VM"
"""Environment variable of commands inside the machine; its value is what `accelerator` returns there."""

KVM_SECONDS, EMULATION_SECONDS = 10.0, 180.0
"""Time limits until the guest answers; if KVM takes longer, it does not work."""

KVM = ("kvm", "-cpu", "host", "-smp", "2")
EMULATION = ("tcg", "-cpu", "max,la57=off,erms=off,fsrm=off", "-smp", "1")
"""One CPU: two emulated ones would wait for each other's locks while a busy host runs neither.  Without features that
are slow when emulated: a fifth level of page tables, and string instructions that work byte by byte."""

EMULATION_FACTOR = 10
TOOL_LIMITS = {"PROXY_ENGINE_TOOL_SECONDS": "1200"}
"""Time limit of the engine's tools in an emulated machine; elsewhere it is 120 s."""
_KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TERM", "TZ", "NO_COLOR")
_CONSOLE_BYTES = 1 << 14
_ARGUMENTS = (
    "console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on cryptomgr.notests"
    # On a busy host emulated timers are late; the kernel would consider them broken and panic at boot.
    " no_timer_check"
)
_EXIT_SECONDS = 20
_NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "modprobe": "kmod", "depmod": "kmod",
    "setpriv": "util-linux",
}  # fmt: skip

Sink = Callable[[bytes], object]


class _NotUp(VmError):
    """The machine ended unexpectedly, or its guest did not answer."""


def inside() -> bool:
    """Whether this process runs in a machine that `run` booted."""
    return INSIDE in os.environ


def accelerator() -> str:
    """The accelerator of the machine that this process runs in: `kvm`, or `tcg` for emulation."""
    return os.environ[INSIDE]


def patience() -> int:
    """Factor for time limits: an emulated machine has only a fraction of a CPU."""
    return EMULATION_FACTOR if os.environ.get(INSIDE) == "tcg" else 1


def missing() -> str | None:
    """Packages missing for `run` and how to install them; None if all are installed."""
    packages = {package: None for command, package in _NEEDED.items() if not shutil.which(command)}
    busybox = shutil.which("busybox")
    if busybox and "busybox-static" not in packages and b"/lib64/ld-linux" in Path(busybox).read_bytes()[:4096]:
        packages["busybox-static"] = None
    if not packages:
        return None
    return f"a virtual machine needs {', '.join(packages)}: sudo apt-get install {' '.join(packages)}"


def run(
    command: Sequence[str],
    *,
    image: str = DEFAULT,
    memory_mib: int = 2048,
    writable: Sequence[str] = (),
    environment: dict[str, str] | None = None,
    stdin: bytes = b"",
    stdout: Sink | None = None,
    stderr: Sink | None = None,
    limit_seconds: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[str], object] = lambda line: None,
) -> int:
    """Run `command` in a new machine with the given kernel, in the current directory; returns its exit code.

    Output goes to the given sinks, by default to ours: then it is a terminal inside if it is one here.  VmError if the
    machine does not start; or if it exceeds `limit_seconds` (including boot) or is `stopped` by another thread, in
    which cases it is killed.
    """
    limits = TimeLimit(limit_seconds, stopped)
    with booted(image, memory_mib=memory_mib, writable=writable, limits=limits, progress=progress) as guest:
        return guest.run(command, environment=environment, stdin=stdin, stdout=stdout, stderr=stderr, limits=limits)


@contextmanager
def booted(
    image: str = DEFAULT,
    *,
    memory_mib: int = 2048,
    writable: Sequence[str] = (),
    limits: TimeLimit | None = None,
    progress: Callable[[str], object] = lambda line: None,
) -> Iterator[Guest]:
    """A machine for several commands in sequence; it is killed at the end.

    VmError if a program is missing, the image does not exist, or the machine does not start.
    """
    if why := missing():
        raise VmError(why)
    found = resolve(image)
    progress(f"booting Linux {found.release} in a virtual machine")
    folders = sorted({os.path.abspath(folder) for folder in writable})
    with _booted(found, memory_mib, folders, limits or TimeLimit()) as machine:
        progress(f"the virtual machine is running (accelerator {machine.accelerator})")
        yield Guest(machine)


class Guest:
    """Runs commands in a booted machine; each sees the processes and files left by the previous ones."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @property
    def accelerator(self) -> str:
        """The accelerator, as `accelerator` returns it inside."""
        return self._machine.accelerator

    def run(
        self,
        command: Sequence[str],
        *,
        environment: dict[str, str] | None = None,
        stdin: bytes = b"",
        stdout: Sink | None = None,
        stderr: Sink | None = None,
        limits: TimeLimit | None = None,
    ) -> int:
        """The command's exit code; VmError if the machine ends or a limit expires first, after which it is unusable."""
        machine, check = self._machine, (limits or TimeLimit()).check
        for start in range(0, len(stdin), 1 << 20):
            machine.send(b"i", stdin[start : start + (1 << 20)])
        longer = TOOL_LIMITS if machine.accelerator == "tcg" else {}
        variables = {INSIDE: machine.accelerator, **longer, **_bytecode(), **(environment or {})}
        request = {
            "command": list(command),
            "cwd": os.getcwd(),
            "terminals": [_terminal(sys.stdout, stdout), _terminal(sys.stderr, stderr)],
            "host": socket.gethostname(),
            "environment": _environment(variables),
        }
        sinks = {b"o": stdout or _write_to(sys.stdout), b"e": stderr or _write_to(sys.stderr)}
        machine.send(b"c", json.dumps(request).encode())
        while True:
            kind, data = machine.receive(check)
            if kind == b"x":
                return int(data)
            sinks[kind](data)

    def check(self) -> None:
        """Raise VmError if the machine has ended."""
        self._machine.check()

    def signal(self, number: int) -> None:
        """Send a signal to the running command and its children."""
        self._machine.send(b"s", str(number).encode())


class TimeLimit:
    """Time limit of an operation in a machine, None for none; `stopped` reports a stop by another thread."""

    def __init__(self, seconds: float | None = None, stopped: Callable[[], bool] = lambda: False) -> None:
        self._seconds, self._stopped = seconds, stopped
        self._until = math.inf if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        """Raise VmError if the limit has expired or it was stopped."""
        if self._stopped():
            raise VmError("the virtual machine was stopped before its command had ended")
        if time.monotonic() > self._until:
            raise VmError(f"the virtual machine's command had not ended after {self._seconds:g} s")


def _booted(image: Image, memory_mib: int, writable: Sequence[str], limits: TimeLimit) -> Machine:
    """A machine whose guest has answered, using KVM if it works, which is tried once per boot of the host."""
    mark = cache() / "no-kvm"
    this_boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    if os.access("/dev/kvm", os.R_OK | os.W_OK) and not (mark.exists() and mark.read_text() == this_boot):
        try:
            return _boot(image, KVM, memory_mib, writable, limits, KVM_SECONDS)
        except _NotUp:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.write_text(this_boot)
    return _boot(image, EMULATION, memory_mib, writable, limits, EMULATION_SECONDS)


def _boot(
    image: Image, accel: Sequence[str], memory_mib: int, writable: Sequence[str], limits: TimeLimit, seconds: float
) -> Machine:
    shares = [SharedFolder(f"w{number}", folder, "none") for number, folder in enumerate(writable)]
    shares += [SharedFolder("bytecode", folder, "loose") for folder in _bytecode().values()]
    modules = "/" if image.root == Path("/") else f"{image.root}/lib/modules"
    settings = f"MODULES={_quoted(modules)}\nPYTHON={_quoted(sys.executable)}\nGUEST={_quoted(str(GUEST))}\n"
    machine = Machine(
        build(image, shutil.which("busybox") or "busybox", settings, shares), image.kernel, shares, accel, memory_mib
    )
    until = time.monotonic() + seconds

    def check() -> None:
        limits.check()
        if time.monotonic() > until:
            raise _NotUp(
                f"the virtual machine did not boot kernel {image.release} within {seconds:g} s: {machine.said()}"
            )

    try:
        machine.receive(check)
    except BaseException:
        machine.end()
        raise
    return machine


class Machine:
    """Context manager for QEMU, its console, and frames to and from its guest (guest.py)."""

    def __init__(
        self, initramfs: bytes, kernel: Path, shares: Sequence[SharedFolder], accel: Sequence[str], memory_mib: int
    ) -> None:
        self.accelerator = accel[0].partition(",")[0]
        self._console = bytearray()
        self._frames = bytearray()
        with ExitStack() as stack:
            archive = stack.enter_context(os.fdopen(os.memfd_create("initramfs"), "wb"))
            archive.write(initramfs)
            archive.flush()
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            command = [
                # Ends with the thread that started it, however that ends.
                "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", *accel,
                "-m", str(memory_mib), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-kernel", str(kernel), "-initrd", f"/proc/self/fd/{archive.fileno()}", "-append", _ARGUMENTS,
                "-serial", "stdio", "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
                "-chardev", f"socket,id=guest,fd={theirs.fileno()}",
                "-device", "virtserialport,chardev=guest,name=harness",
                "-virtfs", "local,path=/,mount_tag=root,security_model=none,multidevs=remap,readonly=on",
            ]  # fmt: skip
            for tag, folder, _ in shares:
                path = folder.replace(",", ",,")
                command += ["-virtfs", f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                pass_fds=[archive.fileno(), theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        self._guest = ours
        self._guest.settimeout(EMULATION_SECONDS)
        self._selector = selectors.DefaultSelector()
        self._selector.register(ours, selectors.EVENT_READ)
        assert self._process.stdout, "it is a pipe"
        self._stdout = self._process.stdout
        self._selector.register(self._stdout, selectors.EVENT_READ)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.end()

    def send(self, kind: bytes, data: bytes = b"") -> None:
        """Send one frame; VmError if the machine has ended."""
        try:
            self._guest.sendall(kind + len(data).to_bytes(4, "big") + data)
        except TimeoutError:
            raise VmError(f"the virtual machine does not answer: {self.said()}") from None
        except OSError:
            raise VmError(f"the virtual machine ended: {self.said()}") from None

    def receive(self, check: Callable[[], None]) -> tuple[bytes, bytes]:
        """The next frame, calling `check` while waiting; VmError if the machine ends instead."""
        while True:
            size = int.from_bytes(self._frames[1:5], "big") + 5
            if len(self._frames) >= max(size, 5):
                frame = bytes(self._frames[:size])
                del self._frames[:size]
                return frame[:1], frame[5:]
            check()
            for key, _ in self._selector.select(0.2):
                self._read(key.fileobj)

    def _read(self, source: object) -> None:
        if source is self._guest:
            data = self._guest.recv(1 << 16)
            self._frames += data
        else:
            data = os.read(self._stdout.fileno(), 1 << 16)
            self._console += data
            del self._console[:-_CONSOLE_BYTES]
        if not data:
            self._selector.unregister(self._guest if source is self._guest else self._stdout)
        if not self._selector.get_map():
            raise _NotUp(f"the virtual machine ended before its command did: {self.said()}")

    def check(self) -> None:
        """Raise VmError if it has ended."""
        if self._process.poll() is not None:
            raise VmError(f"the virtual machine ended: {self.said()}")

    def said(self) -> str:
        """The last console lines joined into one; lines of programs are preferred to the kernel's."""
        lines = [line.strip() for line in self._console.decode(errors="replace").split("\n") if line.strip()]
        programs = [line for line in lines if not line.startswith("[")]
        return " / ".join((programs or lines)[-5:]) or "no console output"

    def end(self) -> None:
        """Kill it; files written to the host's folders are kept."""
        self._process.kill()
        self._process.wait(_EXIT_SECONDS)
        self._stdout.close()
        self._guest.close()
        self._selector.close()


def _bytecode() -> dict[str, str]:
    """The folder for compiled Python files in the machine, if they must not be written beside the sources."""
    if not sys.dont_write_bytecode:
        return {}
    folder = cache_folder() / "bytecode"
    folder.mkdir(parents=True, exist_ok=True)
    return {"PYTHONPYCACHEPREFIX": str(folder)}


def _environment(extra: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    settings = {**kept, **extra}
    settings.setdefault("PATH", os.defpath)
    return settings


def _terminal(stream: TextIO, sink: Sink | None) -> list[int] | None:
    """Rows and columns if the stream is a terminal and used, else None."""
    if sink or not stream.isatty():
        return None
    size = os.get_terminal_size(stream.fileno())
    return [size.lines, size.columns]


def _write_to(stream: TextIO) -> Sink:
    def write(data: bytes) -> None:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()

    return write


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
