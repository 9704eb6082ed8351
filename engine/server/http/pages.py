"""The pages of the daemon's two HTTP servers: health for load balancers, metrics etc. for operators."""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from engine.config import NEWEST
from engine.server.config.configuration import API_VERSION, KIND
from engine.server.config.options import EngineOptions
from engine.server.http.health import FamilyHealth, Health
from engine.server.http.metrics import CONTENT_TYPE, IP_FAMILY, Metrics
from engine.server.http.servers import NOT_FOUND, Answer, Handler
from engine.server.http.zpages import flagz, statusz

HEALTH_BY_FAMILY_SINCE = (1, 33)
_NOSNIFF = (("X-Content-Type-Options", "nosniff"),)


def go_time(seconds: float) -> str:
    """A time in Go's format; 0 is Go's zero time."""
    if not seconds:
        return "0001-01-01 00:00:00 +0000 UTC"
    whole, nanoseconds = divmod(int(seconds * 1e9), 10**9)
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(whole))}{fraction} +0000 UTC"


def rfc3339(seconds: float) -> str:
    """A time in the format of Go's JSON; 0 is Go's zero time."""
    date, clock, *_ = go_time(seconds).split(" ")
    return f"{date}T{clock}Z"


def health_pages(
    health: Health, metrics: Metrics, clock: Callable[[], float], version: tuple[int, int] = NEWEST
) -> Handler:
    """/healthz and /livez (HC-07, HC-07a, HC-08)."""
    body = _health_by_family if version >= HEALTH_BY_FAMILY_SINCE else _health_of_1_32

    def healthz() -> Answer:
        eligible = health.node_eligible
        answer = answer_with(health.healthy() and health.authorized() and eligible, {"nodeEligible": eligible})
        metrics.healthz.labels(str(answer.status)).inc()
        return answer

    def livez() -> Answer:
        answer = answer_with(health.healthy() and health.authorized(), {})
        metrics.livez.labels(str(answer.status)).inc()
        return answer

    def answer_with(well: bool, more: dict[str, bool | str]) -> Answer:
        more |= {} if health.authorized() else {"apiServer": "401 Unauthorized"}
        text = body(health.by_family(), clock(), well, more)
        return Answer(200 if well else 503, text.encode(), "application/json", _NOSNIFF)

    return _router({"/healthz": healthz, "/livez": livez})


def _health_by_family(families: dict[int, FamilyHealth], now: float, well: bool, more: dict[str, bool | str]) -> str:
    """One object with the state of each family; "healthy" ignores the node's eligibility (HC-07a)."""
    status = {
        IP_FAMILY[family]: {"lastUpdated": rfc3339(state.updated), "healthy": state.healthy}
        for family, state in families.items()
    }
    last = now if well else max((state.updated for state in families.values()), default=0.0)
    healthy = all(state.healthy for state in families.values())
    times = {"lastUpdated": rfc3339(last), "currentTime": rfc3339(now)}
    return json.dumps(times | more | {"healthy": healthy, "status": status})


def _health_of_1_32(families: dict[int, FamilyHealth], now: float, well: bool, more: dict[str, bool | str]) -> str:
    """Two times in Go's format."""
    last = now if well else max((state.updated for state in families.values()), default=0.0)
    rest = "".join(f', "{name}": {json.dumps(value)}' for name, value in more.items())
    return f'{{"lastUpdated": "{go_time(last)}","currentTime": "{go_time(now)}"{rest}}}'


def operator_pages(options: EngineOptions, metrics: Metrics, clock: Callable[[], float]) -> Handler:
    """/metrics and the other pages at its address (MET-01, MET-09); profiles only if configured."""
    mode, started = options.configuration.mode, clock()
    config_page = msgspec.json.encode({"kubeproxy.config.k8s.io": _configz(options)}, enc_hook=str)
    pages: dict[str, Callable[[], Answer]] = {
        "/metrics": lambda: Answer(200, metrics.text(), CONTENT_TYPE),
        "/metrics/slis": lambda: Answer(200, _slis(), CONTENT_TYPE),
        "/healthz": lambda: Answer(200, b"ok", headers=_NOSNIFF),
        "/proxyMode": lambda: Answer(200, mode.encode(), headers=_NOSNIFF),
        "/configz": lambda: Answer(200, config_page, "application/json"),
    }
    if options.configuration.enable_profiling:
        pages["/debug/threads"] = lambda: Answer(200, _stacks())
    if options.gate("ComponentFlagz"):
        pages["/flagz"] = lambda: Answer(200, flagz(options).encode(), headers=_NOSNIFF)
    if options.gate("ComponentStatusz"):
        pages["/statusz"] = lambda: Answer(200, statusz(options, pages, started, clock).encode(), headers=_NOSNIFF)
    return _router(pages)


def _configz(options: EngineOptions) -> dict[str, Any]:
    """The configuration in effect; since 1.36 with the kind and version of a file (MET-10)."""
    fields: dict[str, Any] = msgspec.to_builtins(options.configuration, enc_hook=str)
    return {"kind": KIND, "apiVersion": API_VERSION} | fields if options.version >= (1, 36) else fields


def _router(pages: dict[str, Callable[[], Answer]]) -> Handler:
    return lambda path, query: pages.get(path, lambda: NOT_FOUND)()


def _slis() -> bytes:
    """The health checks of /healthz as metrics, as Kubernetes components serve them."""
    return (
        b"# HELP kubernetes_healthcheck This metric records the result of a single healthcheck.\n"
        b"# TYPE kubernetes_healthcheck gauge\n"
        b'kubernetes_healthcheck{name="ping",type="healthz"} 1\n'
    )


def _stacks() -> bytes:
    """The stack of every thread."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        parts.append(f"{names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}\n")
    return "".join(parts).encode()
