"""A bearer token in a file that is renewed, read as client-go does.

A token is used for at most PERIOD_SECONDS, and read again once the API server has refused it; while the file cannot be
read, the last token is used.  The `kubernetes` client reads a kubeconfig's `tokenFile` only once.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from engine.server.api.access import KUBE_CONFIG_DEFAULT_LOCATION, SERVICE_TOKEN_FILENAME, Configuration

PERIOD_SECONDS = 50.0
"""client-go uses a token for a minute and renews it 10 s before."""


class TokenFile:
    """Called by a Configuration before each request; OSError if there is no token at first. Thread-safe."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._token = path.read_text().strip()
        self._until = clock() + PERIOD_SECONDS

    def __call__(self, configuration: Configuration) -> None:
        for key in ("BearerToken", "authorization"):  # the key depends on the client's version
            configuration.api_key[key] = f"Bearer {self.current()}"

    def current(self) -> str:
        """The token to use now."""
        with self._lock:
            if self._clock() >= self._until:
                try:
                    self._token = self._path.read_text().strip() or self._token
                    self._until = self._clock() + PERIOD_SECONDS
                except (OSError, UnicodeDecodeError):
                    pass  # retried by the next request
            return self._token

    def refused(self) -> None:
        """The API server answered 401: read the file again for the next request."""
        with self._lock:
            self._until = -math.inf


def follow(configuration: Configuration, kubeconfig: str | None, context: str | None = None) -> None:
    """Read the token of the context's user (default: the current context) from its file, if it has one."""
    if path := _token_file(kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION, context):
        _follow(configuration, path)


def follow_pod(configuration: Configuration) -> None:
    """Read the token of the pod's service account."""
    _follow(configuration, Path(SERVICE_TOKEN_FILENAME))


def note_refusal(configuration: Configuration) -> None:
    """The API server answered 401."""
    if isinstance(configuration.refresh_api_key_hook, TokenFile):
        configuration.refresh_api_key_hook.refused()


def _follow(configuration: Configuration, path: Path) -> None:
    token = TokenFile(path)
    token(configuration)
    hook: Any = token  # the client declares the type of its default, None
    configuration.refresh_api_key_hook = hook


def _token_file(kubeconfig: str, context: str | None) -> Path | None:
    """In several files (KUBECONFIG) the first definition of a name is used; paths are relative to their file."""
    contexts: dict[str, str] = {}
    files: dict[str, Path | None] = {}
    for path in map(Path, kubeconfig.split(os.pathsep)):
        if not path.is_file():
            continue
        said = yaml.safe_load(path.read_text()) or {}
        context = context or said.get("current-context")
        for each in said.get("contexts") or ():
            contexts.setdefault(each.get("name"), (each.get("context") or {}).get("user", ""))
        for each in said.get("users") or ():
            name = (each.get("user") or {}).get("tokenFile")
            files.setdefault(each.get("name"), path.parent / name if name else None)
    return files.get(contexts.get(context or "", ""))
