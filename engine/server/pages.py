"""What the daemon's two HTTP servers answer: health for load balancers, metrics and the like for operators."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable

import msgspec

from engine.server.configuration import KubeProxyConfiguration
from engine.server.health import Health
from engine.server.http import NOT_FOUND, Answer, Handler
from engine.server.metrics import CONTENT_TYPE, Metrics

_NOSNIFF = (("X-Content-Type-Options", "nosniff"),)


def go_time(seconds: float) -> str:
    """As Go prints a time; 0 is its zero time."""
    if not seconds:
        return "0001-01-01 00:00:00 +0000 UTC"
    whole, nanoseconds = divmod(int(seconds * 1e9), 10**9)
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(whole))}{fraction} +0000 UTC"


def health_pages(health: Health, metrics: Metrics, clock: Callable[[], float]) -> Handler:
    """/healthz and /livez (HC-07, HC-08)."""

    def healthz() -> Answer:
        healthy, eligible = health.healthy(), health.node_eligible
        answer = _health(healthy and eligible, f', "nodeEligible": {str(eligible).lower()}')
        metrics.healthz.labels(str(answer.status)).inc()
        return answer

    def livez() -> Answer:
        answer = _health(health.healthy(), "")
        metrics.livez.labels(str(answer.status)).inc()
        return answer

    def _health(well: bool, more: str) -> Answer:
        now = clock()
        updated = go_time(now if well else health.last_updated())
        body = f'{{"lastUpdated": "{updated}","currentTime": "{go_time(now)}"{more}}}'
        return Answer(200 if well else 503, body.encode(), "application/json", _NOSNIFF)

    return _router({"/healthz": healthz, "/livez": livez})


def operator_pages(mode: str, configuration: KubeProxyConfiguration, metrics: Metrics) -> Handler:
    """/metrics and what stands beside it (MET-01); profiles only where the configuration allows them."""
    config_page = msgspec.json.encode({"kubeproxy.config.k8s.io": configuration}, enc_hook=str)
    pages = {
        "/metrics": lambda: Answer(200, metrics.text(), CONTENT_TYPE),
        "/metrics/slis": lambda: Answer(200, _slis(), CONTENT_TYPE),
        "/healthz": lambda: Answer(200, b"ok", headers=_NOSNIFF),
        "/proxyMode": lambda: Answer(200, mode.encode(), headers=_NOSNIFF),
        "/configz": lambda: Answer(200, config_page, "application/json"),
    }
    if configuration.enable_profiling:
        pages["/debug/threads"] = lambda: Answer(200, _stacks())
    return _router(pages)


def _router(pages: dict[str, Callable[[], Answer]]) -> Handler:
    return lambda path, query: pages.get(path, lambda: NOT_FOUND)()


def _slis() -> bytes:
    """The health checks of /healthz as metrics, as Kubernetes components give them."""
    return (
        b"# HELP kubernetes_healthcheck This metric records the result of a single healthcheck.\n"
        b"# TYPE kubernetes_healthcheck gauge\n"
        b'kubernetes_healthcheck{name="ping",type="healthz"} 1\n'
    )


def _stacks() -> bytes:
    """Where every thread is."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        parts.append(f"{names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}\n")
    return "".join(parts).encode()
