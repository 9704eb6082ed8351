"""The generated cluster's state, kept compact: a million endpoints must fit into memory, which their JSON would not."""

from __future__ import annotations

import msgspec

from harness.log.events import JsonObject


class Node(msgspec.Struct, eq=False):
    """Node number `index`; `used` counts the allocated addresses of its podCIDR."""

    index: int
    uid: str
    zone: str
    used: int = 0
    alive: bool = True

    @property
    def name(self) -> str:
        """metadata.name."""
        return f"node-{self.index + 1:04d}"


class Endpoint(msgspec.Struct, eq=False, gc=False):
    """A pod behind a Service: host number `host` on node number `node`, and its conditions."""

    node: int
    host: int
    ready: bool = True
    serving: bool = True
    terminating: bool = False


class Slice(msgspec.Struct, eq=False):
    """Up to 100 endpoints; stands for one EndpointSlice per address family.

    `suffixes` and `uids` have one entry per family, IPv4 first.
    """

    suffixes: tuple[str, ...]
    uids: tuple[str, ...]
    endpoints: list[Endpoint]


class Service(msgspec.Struct, eq=False):
    """A Service's spec and status as sent, its slices, and `target_ports`: (name, port, protocol) each."""

    namespace: str
    name: str
    uid: str
    labels: JsonObject
    spec: JsonObject
    status: JsonObject
    target_ports: list[tuple[str, int, str]]
    slices: list[Slice]
    alive: bool = True

    @property
    def has_slices(self) -> bool:
        """Whether the cluster creates EndpointSlices for it: not for an ExternalName."""
        return bool(self.spec["type"] != "ExternalName")

    def endpoint_count(self) -> int:
        """Endpoints over all its slices."""
        return sum(len(piece.endpoints) for piece in self.slices)

    def holder(self, endpoint: Endpoint) -> Slice | None:
        """The slice that contains this endpoint object, None once it is removed."""
        for piece in self.slices:
            if endpoint in piece.endpoints:
                return piece
        return None
