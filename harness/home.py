"""The user's folders for state and caches, by the XDG Base Directory Specification."""

from __future__ import annotations

import os
from pathlib import Path

NAME = "kube-proxy-harness"


class NoHome(OSError):
    """Neither the variable nor a home directory is set; the message names what to set."""

    def __init__(self, variable: str) -> None:
        text = f"no home directory: HOME is not set and this user has none; set HOME or {variable}"
        super().__init__(text)
        self.strerror = text


def state_folder() -> Path:
    """Folder for data that must outlive a run; raises NoHome."""
    return _folder("XDG_STATE_HOME", ".local/state")


def cache_folder() -> Path:
    """Folder for data that can be regenerated; raises NoHome."""
    return _folder("XDG_CACHE_HOME", ".cache")


def _folder(variable: str, below: str) -> Path:
    if base := os.environ.get(variable):
        return Path(base, NAME)
    try:
        return Path.home() / below / NAME
    except RuntimeError:
        raise NoHome(variable) from None
