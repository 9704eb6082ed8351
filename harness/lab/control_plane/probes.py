"""readinessProbes as run by kubelets: their definition, and when results make a pod ready. Pure.

A probe runs immediately and then every `period_seconds`.  Before `initial_delay_seconds` it is not run and the
container counts as not ready.  A result takes effect once it has occurred `success_threshold` (`failure_threshold`)
times in a row; until then the pod's state is kept.  A container without a probe is ready while it runs.
Source: Kubernetes docs, "Configure Liveness, Readiness and Startup Probes".
"""

from __future__ import annotations

from typing import Any

import msgspec


class ProbeError(ValueError):
    """A readinessProbe that the API would reject; the message names the field."""


class HttpGet(msgspec.Struct, frozen=True):
    """GET of `path`; 200 to 399 is success."""

    port: int
    path: str = "/"


class TcpSocket(msgspec.Struct, frozen=True):
    """A connection that opens."""

    port: int


class Exec(msgspec.Struct, frozen=True):
    """A command that exits with 0."""

    command: tuple[str, ...]


class Probe(msgspec.Struct, frozen=True):
    """One readinessProbe with the API's defaults filled in; durations are whole seconds, as in the API."""

    action: HttpGet | TcpSocket | Exec
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3


_NUMBERS = {
    "initialDelaySeconds": ("initial_delay_seconds", 0),
    "periodSeconds": ("period_seconds", 1),
    "timeoutSeconds": ("timeout_seconds", 1),
    "successThreshold": ("success_threshold", 1),
    "failureThreshold": ("failure_threshold", 1),
}


def parse_probe(manifest: dict[str, Any] | None) -> Probe | None:
    """Parse a container's `readinessProbe`; None if it has none. ProbeError if invalid."""
    if not manifest:
        return None
    numbers = {}
    for field, (name, least) in _NUMBERS.items():
        value = manifest.get(field)
        if value is None:
            continue
        if type(value) is not int or value < least:
            raise ProbeError(f"readinessProbe.{field}: {value!r}; a whole number from {least} on is needed")
        numbers[name] = value
    return Probe(_action(manifest), **numbers)


def _action(manifest: dict[str, Any]) -> HttpGet | TcpSocket | Exec:
    given = [kind for kind in ("httpGet", "tcpSocket", "exec") if manifest.get(kind)]
    if len(given) != 1:
        raise ProbeError("readinessProbe: exactly one of httpGet, tcpSocket and exec is needed")
    fields = manifest[given[0]]
    if given[0] == "exec":
        return Exec(tuple(fields.get("command") or ()))
    port = fields.get("port")
    if type(port) is not int or not 1 <= port <= 65535:
        raise ProbeError(f"readinessProbe.{given[0]}.port: {port!r}; 1 to 65535 is needed")
    return HttpGet(port, fields.get("path") or "/") if given[0] == "httpGet" else TcpSocket(port)


class Readiness:
    """The readiness of one container, updated with each result."""

    def __init__(self, probe: Probe | None) -> None:
        self._probe = probe
        self.restarted()

    def restarted(self) -> None:
        """Reset for a new container, which has no results yet."""
        self.ready = self._probe is None
        self._last: bool | None = None
        self._run = 0

    def observe(self, success: bool) -> bool:
        """Record one result; returns whether `ready` changed."""
        self._run = self._run + 1 if success is self._last else 1
        self._last = success
        assert self._probe, "results are a probe's"
        threshold = self._probe.success_threshold if success else self._probe.failure_threshold
        if self._run < threshold or self.ready is success:
            return False
        self.ready = success
        return True
