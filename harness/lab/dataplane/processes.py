"""Processes of the lab, and facts about processes from /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

PREFERENCE = -10
ENDING_SECONDS = 30.0
"""Time limit for the end of a process that was killed or asked to terminate."""


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
    """Owns at most one process at a time, whose output is appended to a log; `name` is used in errors."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: asyncio.subprocess.Process | None = None
        self._ending: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()

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

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal; ProcessLookupError when it has ended."""
        if self._living is None:
            raise ProcessLookupError(f"{self.name} has no running process")
        self._living.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._ending = self._living

    @property
    def _living(self) -> asyncio.subprocess.Process | None:
        return self.process if self.process and self.process.returncode is None else None

    async def _start(self, command: Sequence[str], log: Path) -> bool:
        """Start the process unless it is running; returns whether it was started.

        One that was killed or asked to terminate is not running any more: its end is waited for, TimeoutError if it
        does not end.
        """
        async with self._starting:
            if self._ending and self._ending is self._living:
                await self._end_of(self._ending)
            if self.running:
                return False
            with log.open("ab") as file:
                self.process = await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file
                )
            return True

    async def _end_of(self, process: asyncio.subprocess.Process) -> None:
        try:
            await asyncio.wait_for(process.wait(), ENDING_SECONDS)
        except TimeoutError:
            raise TimeoutError(f"{self.name} did not end within {ENDING_SECONDS:g} s of its signal") from None
