"""The current state of the cluster, and the Services that changed since the last sync.

Changes are coalesced per Service; an update that leaves the typed value equal marks nothing
(SVC-12, EPS-09), so no-ops are filtered out before a sync.  Independent of policies and kernels.
"""

from __future__ import annotations

import msgspec

from engine import manifest
from engine.config import NEWEST
from engine.model import Endpoint, EndpointSlice, Name, Node, Service, Target

CHANGES = ("ADDED", "MODIFIED", "DELETED")
RUNNING_WINS_SINCE = (1, 36)
RESOURCES = SERVICES, ENDPOINTSLICES, NODES = "services", "endpointslices", "nodes"


class Observed(msgspec.Struct, frozen=True):
    """A decoded event: the object's name, and its value, None if it is deleted or not for this proxy."""

    resource: str
    name: Name
    value: Service | EndpointSlice | Node | None


class ClusterState:
    """Services, slices by Service, and this node; updated by watch events, read by the dataplane."""

    def __init__(self, node_name: str | None = None, version: tuple[int, int] = NEWEST) -> None:
        self._version = version
        self.services: dict[Name, Service] = {}
        self.slices: dict[Name, dict[str, EndpointSlice]] = {}
        self.node_name = node_name.lower() if node_name else None  # CFG-15
        self.node: Node | None = None
        self.node_changed = False
        self.health_checked: set[Name] = set()
        """Services with a health check node port."""
        self._owner: dict[Name, Name] = {}
        self._dirty: set[Name] = set()

    def observe(self, event_type: str, resource: str, object_json: bytes) -> bool:
        """Apply one watch event; True if anything that this node programs may have changed.

        Markers (BOOKMARK etc.) have no effect, and of a deleted object only the name is read.  Raises ManifestError
        for an object that the API would never send.
        """
        observed = decode(event_type, resource, object_json, self._version)
        return observed is not None and self.apply(observed)

    def apply(self, observed: Observed) -> bool:
        """Observe an event that is already decoded."""
        resource, name, value = observed.resource, observed.name, observed.value
        if resource == SERVICES:
            assert value is None or isinstance(value, Service), "as decoded"
            return self._observe_service(name, value)
        if resource == ENDPOINTSLICES:
            assert value is None or isinstance(value, EndpointSlice), "as decoded"
            return self._observe_slice(name, value)
        assert value is None or isinstance(value, Node), "as decoded"
        return self._observe_node(name, value)

    def take_dirty(self) -> list[Name]:
        """Return the Services that need to be planned again, sorted, and clear them."""
        dirty, self._dirty = self._dirty, set()
        if self.node_changed:
            # Deleted Services are in `dirty` alone.
            dirty |= self.services.keys()
            self.node_changed = False
        return sorted(dirty)

    def owner(self, own: Name) -> Name | None:
        """The Service of an existing slice."""
        return self._owner.get(own)

    @property
    def pending(self) -> bool:
        """Whether there are changes for a sync."""
        return bool(self._dirty) or self.node_changed

    def _observe_service(self, name: Name, service: Service | None) -> bool:
        if self.services.get(name) == service:
            return False
        if service is None:
            del self.services[name]
        else:
            self.services[name] = service
        if service is not None and service.health_check_node_port:
            self.health_checked.add(name)
        else:
            self.health_checked.discard(name)
        self._dirty.add(name)
        return True

    def _observe_slice(self, own: Name, new: EndpointSlice | None) -> bool:
        owner = self._owner.get(own)
        old = self.slices[owner][own.name] if owner else None
        if old == new:
            return False
        if owner:
            self._forget(own, owner)
        if new is not None:
            self.slices.setdefault(new.service, {})[own.name] = new
            self._owner[own] = new.service
            self._dirty.add(new.service)
        return True

    def _forget(self, own: Name, owner: Name) -> None:
        del self._owner[own]
        del self.slices[owner][own.name]
        if not self.slices[owner]:
            del self.slices[owner]
        self._dirty.add(owner)

    def _observe_node(self, name: Name, node: Node | None) -> bool:
        if node is None:
            if self.node is None or name.name != self.node_name:
                return False
            # A deleted node keeps its addresses but loses its labels (TOPO-07).
            node = msgspec.structs.replace(self.node, zone="")
        if self.node_name is None:
            self.node_name = node.name
        if node.name != self.node_name:
            return False
        if node == self.node:
            return False
        self.node = node
        self.node_changed = True
        return True


def decode(event_type: str, resource: str, object_json: bytes, version: tuple[int, int] = NEWEST) -> Observed | None:
    """The event as a value, which is the same for every node; None if no node programs anything because of it.

    Of a deleted object only the name is read.  ManifestError for an object that the API would never send.
    """
    if event_type not in CHANGES or resource not in RESOURCES:
        return None
    if event_type == "DELETED":
        return Observed(resource, manifest.decode_name(object_json), None)
    if resource == NODES:
        node = manifest.decode_node(object_json)
        return Observed(resource, Name("", node.name), node)
    read = manifest.decode_service if resource == SERVICES else manifest.decode_slice
    return Observed(resource, *read(object_json, version))


def endpoints_of(
    slices: dict[str, EndpointSlice],
    family: int,
    port_name: str,
    protocol: int,
    node: str | None,
    version: tuple[int, int] = NEWEST,
) -> dict[Target, Endpoint]:
    """Endpoints of one service port over all its slices, by target (EPS-02, EPS-03, EPS-05, EPS-05a).

    Slices are merged in order of name, so that ties do not depend on the order of arrival.  Of several entries with the
    same target the last that is not terminating wins, else the first; up to 1.35 the last of this node, else the first.
    """
    by_condition = version >= RUNNING_WINS_SINCE
    found: dict[Target, Endpoint] = {}
    for slice_name in sorted(slices) if len(slices) > 1 else slices:
        piece = slices[slice_name]
        if piece.family != family:
            continue
        for name, port_protocol, number in piece.ports:
            if name == port_name and port_protocol == protocol:
                suffix = number.to_bytes(2, "big")
                for endpoint in piece.endpoints:
                    target = endpoint.address + suffix
                    wins = not endpoint.terminating if by_condition else node and endpoint.node == node
                    if wins or target not in found:
                        found[target] = endpoint
    return found
