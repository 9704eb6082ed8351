"""Duration of the steps at start: seconds between milestones, the first counted from the start of the process."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STARTTIME_FIELD = 22
"""Field of /proc/PID/stat, in clock ticks since boot; see proc_pid_stat(5)."""


def seconds_since_process_start() -> float:
    """Age of this process, including imports."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[_STARTTIME_FIELD - 3])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


class Milestones:
    """Milestones in the order in which they were reached."""

    def __init__(self) -> None:
        self._last = 0.0
        self.seconds: dict[str, float] = {}

    def mark(self, what: str) -> None:
        """Record the time since the previous milestone under this name."""
        now = seconds_since_process_start()
        self.seconds[what] = round(now - self._last, 3)
        self._last = now
