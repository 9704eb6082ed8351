"""CPU time and memory of a process and its children, from /proc."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.05


def process_tree(pid: int) -> Iterator[int]:
    """The process and all its living descendants."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from process_tree(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time of all of them, including children that have ended and been waited for."""
    ticks = 0
    for each in process_tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def resident_bytes(pid: int) -> int:
    """Current resident memory of all of them."""
    pages = 0
    for each in process_tree(pid):
        with suppress(OSError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * _PAGE


def highest_bytes(pid: int) -> int:
    """The peak resident memory of the process alone, as recorded by the kernel."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


class Usage:
    """Samples a process from a thread; the last values are kept after it has ended."""

    def __init__(self, pid: int) -> None:
        self._pid, self._ended = pid, threading.Event()
        self._cpu, self._peak = 0.0, 0
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._thread.start()

    def cpu_seconds(self) -> float:
        """CPU time so far."""
        self._cpu = max(self._cpu, cpu_seconds(self._pid))
        return self._cpu

    def peak_bytes(self) -> int:
        """The largest sampled sum, and at least the peak of the process itself."""
        self._peak = max(self._peak, resident_bytes(self._pid), highest_bytes(self._pid))
        return self._peak

    def end(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.peak_bytes()
            self.cpu_seconds()
