"""The control plane's own view of the API: the lab's objects, read from and written to the store that is served.

While the API is down, writers wait as they would for a real one; reads give what was last known, as an
informer's cache does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from harness.lab.topology import NAMESPACE
from harness.serve.store import Change, Store

_encode = msgspec.json.Encoder().encode
SERVICE_LABEL = "kubernetes.io/service-name"


class Api:
    """One namespace's pods, Services and slices, and the nodes."""

    def __init__(self, store: Store) -> None:
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
        """All pods."""
        return self._all("pods")

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

    async def write(self, resource: str, manifest: dict[str, Any]) -> Change:
        """Create or replace; a new object gets what an API server adds."""
        await self._up.wait()
        metadata = {**manifest["metadata"]}
        metadata.setdefault("creationTimestamp", self.now()[:19] + "Z")
        metadata.setdefault("uid", f"{resource}-{metadata['name']}")
        metadata.pop("resourceVersion", None)
        return self.store.put(resource, _encode({**manifest, "metadata": metadata}))

    async def update(self, resource: str, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Replace the object by what `change` makes of it as it is then; nothing when it is gone or stays equal."""
        await self._up.wait()
        found = self.store.collection(resource).get("" if resource == "nodes" else NAMESPACE, name)
        if found is None:
            return
        old = found.manifest()
        new = change(old)
        if new != old:
            await self.write(resource, new)

    async def remove(self, resource: str, name: str) -> None:
        """The object is gone; nothing when it was already."""
        await self._up.wait()
        self.store.remove(resource, "" if resource == "nodes" else NAMESPACE, name)

    async def delete_pod(self, name: str, grace_seconds: int) -> None:
        """Ask for a pod's end: its kubelet takes it from here; at once without grace."""
        stamp = {"deletionTimestamp": self.now()[:19] + "Z", "deletionGracePeriodSeconds": grace_seconds}
        if grace_seconds == 0:
            await self.remove("pods", name)
        else:
            await self.update("pods", name, lambda pod: {**pod, "metadata": {**pod["metadata"], **stamp}})
