"""Where the time of a start goes: seconds from the process's own beginning to each milestone, and between them."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STARTTIME_FIELD = 22
"""Of /proc/PID/stat, in clock ticks since boot; see proc_pid_stat(5)."""


def seconds_since_process_start() -> float:
    """How long this process has been there, imports and all."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[_STARTTIME_FIELD - 3])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


class Milestones:
    """Marks in the order in which they are passed."""

    def __init__(self) -> None:
        self._last = 0.0
        self.seconds: dict[str, float] = {}

    def mark(self, what: str) -> None:
        """`what` has taken from the mark before until now."""
        now = seconds_since_process_start()
        self.seconds[what] = round(now - self._last, 3)
        self._last = now
