"""Whether the configuration file is still the one that was read (CFG-13)."""

from __future__ import annotations

import os


class WatchedFile:
    """A file as it was at the start, links resolved: a ConfigMap that is swapped as a whole is not a write."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether it was written or replaced; one that is gone is no change."""
        now = self._look()
        return now is not None and now != self._seen

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
