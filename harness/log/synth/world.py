"""The live cluster: creates, changes and removes objects, and returns each change as a `WorldChange`."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

from harness.log.events import JsonObject
from harness.log.synth import manifests
from harness.log.synth.model import Endpoint, Node, Service, Slice
from harness.log.synth.names import Names
from harness.log.synth.options import SynthOptions
from harness.log.synth.shapes import Shapes, long_tail

SLICE_LIMIT = 100

WorldChange = tuple[str, str, JsonObject]
"""(event type, resource, manifest)."""


class SyntheticCluster:
    """All state of one recording. Manifests are generated per change, and not kept."""

    def __init__(self, options: SynthOptions) -> None:
        """A cluster with only its nodes; Services are added with `add_service`."""
        self.options = options
        self.rng = random.Random(options.seed)
        self.names = Names(self.rng, options.seed, options.services)
        self.shapes = Shapes(self.rng, options.dual_stack, options.rich)
        self.families = 2 if options.dual_stack else 1
        self.size = options.pods_per_node
        self.services: list[Service] = []
        self.version = 1000
        self.nodes = [
            Node(index, self.uid(), f"zone-{chr(ord('a') + index % options.zones)}") for index in range(options.nodes)
        ]
        self.alive_nodes = list(self.nodes)

    def uid(self) -> str:
        """A version 4 UUID from the seeded generator."""
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def next_version(self) -> int:
        """The next resourceVersion; one counter for all resources, as etcd has."""
        self.version += 1
        return self.version

    def say_node(self, kind: str, node: Node, ready: str = "True") -> WorldChange:
        """A change of `node`; `kind` is the event type, `ready` its Ready condition."""
        version = self.next_version()
        made = manifests.node_manifest(node, version, self.size, self.options.dual_stack, ready)
        return kind, "nodes", made

    def say_service(self, kind: str, service: Service) -> WorldChange:
        """A change of `service`, with its current state."""
        return kind, "services", manifests.service_manifest(service, self.next_version())

    def say_slice(self, kind: str, service: Service, piece: Slice) -> list[WorldChange]:
        """A change of `piece` in each of the Service's address families, with its current state."""
        families = range(len(service.spec["ipFamilies"]))
        return [(kind, "endpointslices", self._slice(service, piece, family)) for family in families]

    def _slice(self, service: Service, piece: Slice, family: int) -> JsonObject:
        """The manifest of one family's EndpointSlice, at the next version."""
        version = self.next_version()
        return manifests.slice_manifest(service, piece, family, version, self.nodes, self.size)

    def new_endpoint(self, ready: bool = True) -> Endpoint:
        """A pod on a random existing node, or on the next one with a free address.

        Raises ValueError if no existing node has one.
        """
        start = self.rng.randrange(len(self.alive_nodes))
        for step in range(len(self.alive_nodes)):
            node = self.alive_nodes[(start + step) % len(self.alive_nodes)]
            if node.used < self.size - 3:
                node.used += 1
                # The first two addresses are the network's and the bridge's.
                return Endpoint(node.index, node.used + 1, ready=ready, serving=ready)
        raise ValueError("every podCIDR is used up: ask for more nodes or less churn")

    def _new_slice(self, endpoints: list[Endpoint]) -> Slice:
        """A slice with a name and uid for each family."""
        suffixes = tuple(self.shapes.counter.suffix() for _ in range(self.families))
        return Slice(suffixes, tuple(self.uid() for _ in range(self.families)), endpoints)

    def add_service(self) -> Service:
        """A new Service, without its slices yet."""
        namespace, name = self.names.service()
        spec, status, targets = self.shapes.draw(name)
        labels = {"app": name, "team": namespace.split("-")[0]}
        service = Service(namespace, name, self.uid(), labels, spec, status, targets, [])
        self.services.append(service)
        return service

    def fill(self, service: Service) -> None:
        """Give a new Service its endpoints, in slices of 100 at most; without endpoints it gets one empty slice."""
        if not service.has_slices:
            return
        fixed = self.options.endpoints_per_service
        count = long_tail(self.rng) if fixed is None else fixed
        pods = [self.new_endpoint() for _ in range(count)]
        if self.options.rich and self.rng.randrange(8) == 0:
            for pod in pods:  # it is terminating, and serves until its end
                pod.ready, pod.terminating = False, True
        starts = range(0, max(1, count), SLICE_LIMIT)
        service.slices = [self._new_slice(pods[start : start + SLICE_LIMIT]) for start in starts]

    def place(self, service: Service, endpoint: Endpoint) -> list[WorldChange]:
        """Put `endpoint` in a slice with room, or in a new one."""
        for piece in service.slices:
            if len(piece.endpoints) < SLICE_LIMIT:
                piece.endpoints.append(endpoint)
                return self.say_slice("MODIFIED", service, piece)
        piece = self._new_slice([endpoint])
        service.slices.append(piece)
        return self.say_slice("ADDED", service, piece)

    def remove(self, service: Service, piece: Slice, endpoints: list[Endpoint]) -> list[WorldChange]:
        """Remove `endpoints` from `piece`, which is deleted once empty unless it is the last slice."""
        left = [one for one in piece.endpoints if one not in endpoints]
        if not left and len(service.slices) > 1:
            service.slices.remove(piece)
            return self.say_slice("DELETED", service, piece)
        piece.endpoints = left
        return self.say_slice("MODIFIED", service, piece)

    def delete_service(self, index: int) -> Iterator[list[WorldChange]]:
        """Delete Service number `index`: first its slices, then itself, each with its last object."""
        service = self.services[index]
        self.services[index] = self.services[-1]
        self.services.pop()
        service.alive = False
        for piece in service.slices:
            yield self.say_slice("DELETED", service, piece)
        yield [self.say_service("DELETED", service)]
        for port in [*service.spec.get("ports", ()), {"nodePort": service.spec.get("healthCheckNodePort")}]:
            if port.get("nodePort"):
                self.shapes.node_ports.release(port["nodePort"])
