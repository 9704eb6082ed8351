"""Processes of the lab, and facts about processes from /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

PREFERENCE = -10


def cpu_seconds(pid: int) -> float:
    """User and system time used by the process; 0 if it does not exist."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def prefer(pid: int) -> None:
    """Give the process priority over other work on the machine, if permitted, as its times are measured.

    Applies to its whole session too, since a kernel with autogroups distributes CPU time to sessions.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, PREFERENCE)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(PREFERENCE))


def memory_bytes(pid: int) -> int:
    """Resident memory; 0 if there is no such process."""
    fields = _stat(pid)
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def is_stopped(pid: int) -> bool:
    """Whether the process was stopped by a signal; False if it does not exist."""
    fields = _stat(pid)
    return bool(fields) and fields[0] == "T"


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty if there is no such process."""
    try:
        # They follow the name in parentheses, which may contain anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class Owner:
    """Owns at most one process at a time, whose output is appended to a log."""

    process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether its process exists, even if stopped."""
        return self._living is not None

    @property
    def pid(self) -> int | None:
        """The pid of the process while it exists."""
        return self._living.pid if self._living else None

    @property
    def how_it_ended(self) -> str:
        """How its process ended, in words."""
        code = self.process.returncode if self.process else None
        return "was not started" if code is None else f"ended with exit code {code}"

    @property
    def stopped(self) -> bool:
        """Whether its process was stopped by a signal."""
        return self._living is not None and is_stopped(self._living.pid)

    @property
    def _living(self) -> asyncio.subprocess.Process | None:
        return self.process if self.process and self.process.returncode is None else None

    async def _spawn(self, command: Sequence[str], log: Path) -> None:
        with log.open("ab") as file:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file
            )
