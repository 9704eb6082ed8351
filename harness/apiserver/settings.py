"""How a server listens, and what it allows."""

from __future__ import annotations

import socket
from typing import NamedTuple

from harness.apiserver.tls import Tls

BOOKMARK_SECONDS = 60.0


class ServerSettings(NamedTuple):
    """How to listen. Port 0 picks a free one; `bound` is a socket bound by the caller to use instead.

    `version` is the response of /version; by default the recording's.  `most_per_page` limits the pages of lists.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    tls: Tls | None = None
    writable: bool = False
    bookmark_seconds: float = BOOKMARK_SECONDS
    bound: socket.socket | None = None
    version: str = ""
    most_per_page: int = 0
