"""A lab's own /run, where `ip netns` and iptables keep their files: the host's must be neither seen nor changed.

Everything else in the host's /run stays there: it may hold the lab's folder (XDG_RUNTIME_DIR), or programs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from pathlib import Path

RUN = Path("/run")
OWN = ("netns", "xtables.lock")
_MS_BIND, _MS_REC = 0x1000, 0x4000  # mount(2)


def make_private_run() -> None:
    """Replace /run of this mount namespace; OSError if that is not permitted."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open(RUN, os.O_RDONLY | os.O_DIRECTORY)
    try:
        entries = {entry.name: entry.stat(follow_symlinks=False).st_mode for entry in os.scandir(before)}
        _mount(libc, "lab", RUN, "tmpfs", 0, "mode=755")
        for name, mode in entries.items():
            if name not in OWN:
                with contextlib.suppress(OSError):  # what cannot be passed on is not visible in the lab
                    _pass_on(libc, f"/proc/self/fd/{before}/{name}", RUN / name, mode)
    finally:
        os.close(before)


def _pass_on(libc: ctypes.CDLL, source: str, target: Path, mode: int) -> None:
    if stat.S_ISLNK(mode):
        target.symlink_to(os.readlink(source))
        return
    target.mkdir() if stat.S_ISDIR(mode) else target.touch()
    _mount(libc, source, target, "", _MS_BIND | _MS_REC, "")


def _mount(libc: ctypes.CDLL, source: str, target: Path, kind: str, flags: int, data: str) -> None:
    if libc.mount(source.encode(), bytes(target), kind.encode(), ctypes.c_ulong(flags), data.encode()):
        code = ctypes.get_errno()
        raise OSError(code, f"mount: {os.strerror(code)}", str(target))
