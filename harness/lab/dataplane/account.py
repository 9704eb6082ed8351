"""Queries the state of a node's proxy in mode userspace: its sockets and addresses."""

from __future__ import annotations

from urllib.error import URLError
from urllib.request import urlopen

import msgspec

from engine.backends.userspace.program import UserspaceProgram

FAMILY = 4
"""The only IP family of a lab."""
ANSWER_SECONDS = 1.0


class ReportedState:
    """The state reported by the proxy of the node at `address`, over HTTP."""

    def __init__(self, address: str, port: int) -> None:
        self._url = f"http://{address}:{port}/account"

    def everything(self, family: int) -> UserspaceProgram | None:
        """See `UserspaceKernel.everything`; OSError if the proxy does not answer."""
        try:
            with urlopen(self._url, timeout=ANSWER_SECONDS) as answer:
                body = answer.read()
        except URLError as error:
            raise OSError(f"{self._url}: {error.reason}") from None
        return msgspec.json.decode(body, type=UserspaceProgram) if body and family == FAMILY else None
