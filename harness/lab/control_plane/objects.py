"""The control plane's view of the API: the lab's objects in the store that is served.

While the API is down, writers wait as for a real API; reads return the last known state, like an informer's cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from harness.apiserver.live import LiveStore
from harness.kube.resources import SERVICE_NAME, Manifest
from harness.lab.topology import NAMESPACE


class LabObjects:
    """One namespace's pods, Services and slices, and the nodes."""

    def __init__(self, store: LiveStore, nodes: Collection[str] = ()) -> None:
        """`nodes`: the lab's own; others created by clients are ignored."""
        self.store, self._nodes = store, frozenset(nodes)
        self._up = asyncio.Event()
        self._up.set()

    def now(self) -> str:
        """The current time in RFC 3339 with microseconds."""
        return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def set_up(self, up: bool) -> None:
        """Allow writes, or block them."""
        (self._up.set if up else self._up.clear)()

    def pods(self) -> list[Manifest]:
        """All pods with a node; pods created by clients without one are ignored, as there is no scheduler."""
        return [pod for pod in self._all("pods") if pod["spec"].get("nodeName")]

    def nodes(self) -> list[Manifest]:
        """The lab's nodes."""
        return [node for node in self._all("nodes") if node["metadata"]["name"] in self._nodes]

    def services(self) -> list[Manifest]:
        """The Services that the lab's own traffic uses."""
        return self._all("services")

    def slices(self, service: str) -> list[Manifest]:
        """The slices of a Service."""
        return [s for s in self.all_slices() if s["metadata"]["labels"].get(SERVICE_NAME) == service]

    def all_slices(self) -> list[Manifest]:
        """The slices of all its Services."""
        return self._all("endpointslices")

    def health_checks(self) -> dict[int, list[Manifest]]:
        """The endpoints of each Service with a health check node port, in any namespace, by that port."""
        slices = self._everywhere("endpointslices")
        return {
            port: [end for piece in slices if _is_of(piece, service) for end in piece.get("endpoints") or ()]
            for service in self._everywhere("services")
            if (port := _health_check_port(service["spec"]))
        }

    def _all(self, resource: str) -> list[Manifest]:
        return [o for o in self._everywhere(resource) if o["metadata"].get("namespace", "") in ("", NAMESPACE)]

    def _everywhere(self, resource: str) -> list[Manifest]:
        return [_complete(found.manifest()) for found in self.store.collection(resource).snapshot().objects]

    def names(self, resource: str, namespace: str) -> set[str]:
        """The names of all objects of a namespace."""
        objects = self.store.collection(resource).snapshot().objects
        return {found.name for found in objects if found.namespace == namespace}

    async def write(self, resource: str, manifest: Manifest) -> None:
        """Create or replace."""
        await self._up.wait()
        self.store.apply(resource, manifest)

    async def update(self, resource: str, name: str, change: Callable[[Manifest], Manifest]) -> None:
        """Replace the object with the result of `change`; no-op if it is gone or unchanged."""
        await self._up.wait()
        found = self.store.collection(resource).get(_namespace(resource), name)
        if found is not None:
            self.store.apply(resource, change(found.manifest()))

    async def remove(self, resource: str, name: str, grace_seconds: int = 0, namespace: str | None = None) -> None:
        """Delete the object; a pod is deleted gracefully, which its kubelet completes. No-op if it is gone."""
        await self._up.wait()
        namespace = _namespace(resource) if namespace is None else namespace
        if self.store.collection(resource).get(namespace, name) is not None:
            self.store.delete(resource, name, namespace, grace_seconds)


def _namespace(resource: str) -> str:
    return "" if resource == "nodes" else NAMESPACE


def _is_of(piece: Manifest, service: Manifest) -> bool:
    slices, owner = piece["metadata"], service["metadata"]
    return (slices["namespace"], slices["labels"].get(SERVICE_NAME)) == (owner["namespace"], owner["name"])


def _health_check_port(spec: Manifest) -> int:
    """The health check node port, 0 if there is none: only LoadBalancer Services with policy Local have one."""
    local = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    return int(spec.get("healthCheckNodePort") or 0) if local else 0


def _complete(manifest: Manifest) -> Manifest:
    """Add the optional parts that a client may omit."""
    metadata = manifest["metadata"] | {"labels": manifest["metadata"].get("labels") or {}}
    return {"spec": {}, "status": {}, **manifest, "metadata": metadata}
