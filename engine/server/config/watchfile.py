"""Detects changes of the configuration file (CFG-13)."""

from __future__ import annotations

import os


class WatchedFile:
    """A file as it was at start, links resolved: an atomic swap of a ConfigMap volume does not count as a write."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether the file was written or replaced; a deleted file does not count as changed."""
        now = self._look()
        return now is not None and now != self._seen

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
