"""Temporary folders that are removed even if their process is killed, by the next process that creates one.

Each has a file that its process keeps locked.  The kernel releases the lock when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

LOCK = ".held"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def temporary_folder(purpose: str, parent: Path | None = None) -> Iterator[Path]:
    """A folder `harness-PURPOSE-...` for this context, in the system's folder for such by default."""
    place, prefix = parent or Path(tempfile.gettempdir()), f"harness-{purpose}-"
    for path in place.glob(f"{prefix}*"):
        with suppress(OSError):  # its process is alive, or another one removes it
            _remove_leftover(path)
    folder, held = _made(place, prefix)
    with held:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_leftover(path: Path) -> None:
    """OSError if it is not a leftover of a process of this user on this machine."""
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        return
    with open(path / LOCK) as held:
        # Another machine's locks, in a folder shared with it, are not seen here.
        if held.read() == _BOOT.read_text():
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)


def _made(place: Path, prefix: str) -> tuple[Path, IO[str]]:
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    held = open(folder / LOCK, "w")
    fcntl.flock(held, fcntl.LOCK_EX)
    held.write(_BOOT.read_text())  # before it is written the folder is not taken for a leftover
    held.flush()
    return folder, held
