"""Servers that must come up in the end: tried again every few seconds, or, on request, ending the process (HC-11)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from engine.server.events import Recorder
from engine.server.http import Handler, Server
from engine.server.logs import get_log

RETRY_SECONDS = 5.0

_log = get_log(__name__)


class ListenError(RuntimeError):
    """An address that must be listened on cannot be."""


@dataclass(frozen=True)
class Listening:
    """One server: `kind` and `wrapped` as its failure is told, `reason` as its event says it."""

    kind: str
    reason: str
    action: str
    wrapped: str

    def start(
        self,
        address: str,
        handler: Handler,
        recorder: Recorder,
        stop: threading.Event,
        fail: Callable[[Exception], None] | None,
    ) -> None:
        """Serve at IP:PORT from a thread's first success on; `fail` is for those who will not wait for one."""
        if address:
            serve = threading.Thread(
                target=self._keep_trying, args=(address, handler, recorder, stop, fail), name=self.kind, daemon=True
            )
            serve.start()

    def _keep_trying(self, address, handler, recorder, stop, fail) -> None:
        host, _, port = address.rpartition(":")
        while not stop.is_set():
            try:
                Server(host.strip("[]"), int(port), handler)
                return
            except OSError as error:
                problem = self.wrapped.format(address=address, error=error.strerror or error)
            _log.error(None, problem)
            recorder.node_event("Warning", self.reason, self.action, problem)
            if fail:
                fail(ListenError(f"{self.kind} server failed: {problem}" if self.kind == "healthz" else problem))
                return
            stop.wait(RETRY_SECONDS)


HEALTHZ = Listening(
    "healthz", "FailedToStartProxierHealthcheck", "Listen", "failed to start proxier healthz on {address}: {error}"
)
METRICS = Listening(
    "metrics", "FailedToStartMetricServer", "StartMetricServer", "starting metrics server failed: {address}: {error}"
)
