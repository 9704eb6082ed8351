"""What /proc tells of a process."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has used; 0 when there is none."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def is_stopped(pid: int) -> bool:
    """Whether the process was stopped by a signal; False when there is none."""
    fields = _stat(pid)
    return bool(fields) and fields[0] == "T"


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on, empty when there is no such process."""
    try:
        # They come after the name in parentheses, which may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
