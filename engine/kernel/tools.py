"""The kernel's tools (nft, iptables, ipset, ip): every call has a time limit, shortened when the process is to end."""

from __future__ import annotations

import io
import os
import subprocess
import time
from collections.abc import Callable

from engine.kernel.interface import KernelError
from engine.kernel.netlink import ending

Run = Callable[[list[str], bytes], "subprocess.CompletedProcess[bytes]"]
"""Runs a tool in the right network namespace."""

SECONDS = 120.0
VARIABLE = "PROXY_ENGINE_TOOL_SECONDS"
"""Environment variable with another limit, for machines on which a tool may take minutes, such as emulated ones."""
BYTES_PER_SECOND = 100_000
"""Large input gets more time; even the slowest tool, `iptables-legacy-restore`, reads several times as fast."""
ENDING_SECONDS = 5.0
"""Time limit of a tool once the process is to end."""
TIMED_OUT, NOT_STARTED, NOT_INSTALLED = 124, 126, 127
"""Exit statuses as used by `timeout` and shells."""

_LOOK_SECONDS = 0.25


def run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A tool's result; a tool that is missing, cannot be started, or hangs gives a failure with such a message."""
    limit = _seconds() + len(stdin) / BYTES_PER_SECOND
    try:
        return _ended(command, stdin, time.monotonic() + limit)
    except FileNotFoundError:
        return _failed(command, NOT_INSTALLED, "is not installed")
    except TimeoutError:
        return _failed(command, TIMED_OUT, f"timed out after {limit:.0f} s")
    except OSError as error:
        return _failed(command, NOT_STARTED, f"could not be started: {error.strerror}")


def _seconds() -> float:
    text = os.environ.get(VARIABLE, "")
    try:
        return float(text) if text else SECONDS
    except ValueError:
        raise KernelError(f"{VARIABLE} is not a number of seconds: {text!r}") from None


def answered(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[bytes]:
    """The result; KernelError if the tool hung or could not be started, so that it is not tried again."""
    if done.returncode in (TIMED_OUT, NOT_STARTED):
        raise KernelError(first_line(done))
    return done


def first_line(done: subprocess.CompletedProcess[bytes]) -> str:
    """The first line of a failed tool's errors, without warnings about its own options."""
    lines = done.stderr.decode(errors="replace").splitlines()
    return next((line for line in lines if not line.startswith("Ignoring deprecated")), "refused")


def _ended(command: list[str], stdin: bytes, until: float) -> subprocess.CompletedProcess[bytes]:
    with (
        _file(stdin) as given,
        _file() as printed,
        subprocess.Popen(command, stdin=given, stdout=printed, stderr=subprocess.PIPE) as process,
    ):
        try:
            while True:
                try:
                    _, errors = process.communicate(timeout=_LOOK_SECONDS)
                    printed.seek(0)
                    return subprocess.CompletedProcess(command, process.returncode, printed.readall(), errors)
                except subprocess.TimeoutExpired:
                    now = time.monotonic()
                    if ending():
                        until = min(until, now + ENDING_SECONDS)
                    if now >= until:
                        raise TimeoutError from None
        except BaseException:
            process.kill()
            raise


def _file(content: bytes = b"") -> io.FileIO:
    """A memory file: writing to a pipe would block while the tool does not read.

    Through a pipe nft prints thousands of small pieces, each of which would wake this process.
    """
    file = io.FileIO(os.memfd_create("tool"), "r+")
    file.write(content)
    file.seek(0)
    return file


def _failed(command: list[str], status: int, why: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.CompletedProcess(command, status, b"", f"{command[0]} {why}".encode())
