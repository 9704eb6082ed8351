"""The control plane's own view of the API: the lab's objects, read from and written to the store that is served.

While the API is down, writers wait as they would for a real one; reads give what was last known, as an
informer's cache does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from harness.lab.topology import NAMESPACE
from harness.serve.live import LiveStore

SERVICE_LABEL = "kubernetes.io/service-name"


class Api:
    """One namespace's pods, Services and slices, and the nodes."""

    def __init__(self, store: LiveStore) -> None:
        self.store = store
        self._up = asyncio.Event()
        self._up.set()

    def now(self) -> str:
        """RFC 3339 with microseconds."""
        return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def set_up(self, up: bool) -> None:
        """Let writers through, or make them wait."""
        (self._up.set if up else self._up.clear)()

    def pods(self) -> list[dict[str, Any]]:
        """All pods that have a node; others, which a client may make, wait for a scheduler that there is not."""
        return [{"status": {}} | pod for pod in self._all("pods") if pod["spec"].get("nodeName")]

    def nodes(self) -> list[dict[str, Any]]:
        """All nodes."""
        return self._all("nodes")

    def services(self) -> list[dict[str, Any]]:
        """The Services that the lab's own traffic uses."""
        return self._all("services")

    def slices(self, service: str) -> list[dict[str, Any]]:
        """The slices of a Service."""
        return [s for s in self._all("endpointslices") if s["metadata"]["labels"].get(SERVICE_LABEL) == service]

    def _all(self, resource: str) -> list[dict[str, Any]]:
        objects = self.store.collection(resource).snapshot().objects
        return [found.manifest() for found in objects if found.namespace in ("", NAMESPACE)]

    async def write(self, resource: str, manifest: dict[str, Any]) -> None:
        """Create or replace."""
        await self._up.wait()
        self.store.apply(resource, manifest)

    async def update(self, resource: str, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Replace the object by what `change` makes of it as it is then; nothing when it is gone or stays equal."""
        await self._up.wait()
        found = self.store.collection(resource).get(_namespace(resource), name)
        if found is not None:
            self.store.apply(resource, change(found.manifest()))

    async def remove(self, resource: str, name: str, grace_seconds: int = 0) -> None:
        """Delete the object, a pod with its grace: its kubelet takes it from there. Nothing when it is gone."""
        await self._up.wait()
        if self.store.collection(resource).get(_namespace(resource), name) is not None:
            self.store.delete(resource, name, _namespace(resource), grace_seconds)


def _namespace(resource: str) -> str:
    return "" if resource == "nodes" else NAMESPACE
