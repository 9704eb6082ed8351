"""Servers whose start is retried every few seconds; if configured, a failure ends the process instead (HC-11)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from engine.server.api.events import EventSender
from engine.server.http.servers import Handler, HttpListener
from engine.server.runtime.logs import get_log

RETRY_SECONDS = 5.0

_log = get_log(__name__)


class ListenError(RuntimeError):
    """A required listen address cannot be bound."""


@dataclass(frozen=True)
class Listening:
    """One server: `kind` and `wrapped` name it in errors, `reason` in the Event before an exit."""

    kind: str
    reason: str
    wrapped: str

    def start(
        self,
        address: str,
        handler: Handler,
        recorder: EventSender,
        stop: threading.Event,
        fail: Callable[[Exception], None] | None,
    ) -> None:
        """Start to serve at IP:PORT, retried in a thread; if `fail` is given, it is called instead of a retry."""
        if address:
            serve = threading.Thread(
                target=self._keep_trying, args=(address, handler, recorder, stop, fail), name=self.kind, daemon=True
            )
            serve.start()

    def _keep_trying(
        self,
        address: str,
        handler: Handler,
        recorder: EventSender,
        stop: threading.Event,
        fail: Callable[[Exception], None] | None,
    ) -> None:
        host, _, port = address.rpartition(":")
        while not stop.is_set():
            try:
                HttpListener(host.strip("[]"), int(port), handler)
                return
            except OSError as error:
                problem = self.wrapped.format(address=address, error=error.strerror or error)
            _log.error(None, problem)
            if fail:
                recorder.node_event("Warning", self.reason, "StartKubeProxy", problem)
                fail(ListenError(f"{self.kind} server failed: {problem}" if self.kind == "healthz" else problem))
                return
            stop.wait(RETRY_SECONDS)


HEALTHZ = Listening("healthz", "FailedToStartProxierHealthcheck", "failed to start proxy healthz on {address}: {error}")
METRICS = Listening("metrics", "FailedToStartMetricServer", "starting metrics server failed: {address}: {error}")
