"""The objects of a small cluster, and the log of their changes, as a recorder would write it."""

from __future__ import annotations

import copy
import uuid
from typing import Any

import msgspec

from harness.kube.resources import BY_NAME, SERVICE_NAME, Manifest
from harness.log.events import Event
from harness.log.synth.manifests import bookmark

NAMESPACE = "rules"
SECOND = 1_000_000_000
ZONES = {"a": "zone-1", "b": "zone-1", "c": "zone-2", "d": "zone-3"}
"""The nodes' letters and their zones."""
_NUMBERS = {letter: number for number, letter in enumerate(ZONES, 1)}


class Pod(msgspec.Struct):
    """An endpoint: host number `host` on node `node`, 0 for the node's own network; hints name zones and letters."""

    node: str
    host: int
    conditions: dict[str, bool] | None = None
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    def address(self, family: int) -> str:
        """Its address of IP version `family`."""
        number = _NUMBERS[self.node]
        if not self.host:
            return node_addresses(self.node)[family][0]
        return f"10.128.{number}.{self.host}" if family == 4 else f"fd00:10:128:{number}::{self.host:x}"

    def endpoint(self, family: int) -> Manifest:
        """Its entry in an EndpointSlice."""
        made: Manifest = {"addresses": [self.address(family)]}
        if self.conditions is not None:
            made["conditions"] = self.conditions
        made |= {"nodeName": f"node-{self.node}", "zone": ZONES[self.node]}
        hints = {"forZones": self.zones, "forNodes": tuple(f"node-{letter}" for letter in self.nodes)}
        listed = {kind: [{"name": name} for name in names] for kind, names in hints.items() if names}
        return {**made, "hints": listed} if listed else made


class Port(msgspec.Struct):
    """One port of a Service, and its port number in pods; `target` may be a name."""

    name: str
    number: int
    target: str | int
    pod_port: int
    protocol: str = "TCP"

    @classmethod
    def of(cls, text: str) -> Port:
        """From `NAME PORT TARGET [PROTOCOL]`: `-` means no name, and a named target is written `web=8080`."""
        name, number, target, *protocol = text.split()
        named, _, pod_port = target.rpartition("=")
        return cls("" if name == "-" else name, int(number), named or int(pod_port), int(pod_port), *protocol)

    def spec(self) -> Manifest:
        """Its entry in a Service's spec; the API leaves out an empty name."""
        made = {"name": self.name, "protocol": self.protocol, "port": self.number, "targetPort": self.target}
        return {key: value for key, value in made.items() if value != ""}

    def slice_entry(self) -> Manifest:
        """Its entry in a slice, where an empty name is sent."""
        return {"name": self.name, "protocol": self.protocol, "port": self.pod_port}


class Slice(msgspec.Struct):
    """Stands for one EndpointSlice per address family."""

    service: str
    letter: str
    families: tuple[int, ...]
    ports: list[Port]
    pods: list[Pod]


def node_addresses(letter: str) -> dict[int, list[str]]:
    """Internal addresses by IP version: two of each, the second one in a separate network."""
    number = _NUMBERS[letter]
    return {
        4: [f"192.168.1.{number}", f"192.168.101.{number}"],
        6: [f"fd00:192:168:1::{number}", f"fd00:192:168:101::{number}"],
    }


class Cluster:
    """Objects by (resource, name), slices by (Service, letter), and `events` so far."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.slices: dict[tuple[str, str], Slice] = {}
        self._objects: dict[tuple[str, str], Manifest] = {}
        self._hosts = dict.fromkeys(ZONES, 10)
        self._node_ports = 30_000
        self._addresses = 16
        self._version = 1000
        self._now = 0
        self._listing = True

    def pods(self, letters: str, zones: str = "", nodes: str = "", **conditions: bool) -> list[Pod]:
        """New pods on these nodes; conditions not given are those of a healthy pod."""
        healthy = {"ready": True, "serving": True, "terminating": False} | conditions
        return [self._pod(letter, dict(healthy), zones, nodes) for letter in letters]

    def vague(self, letter: str, conditions: dict[str, bool] | None) -> Pod:
        """A new pod with exactly these conditions: those left out are nil."""
        return self._pod(letter, conditions, "", "")

    def _pod(self, letter: str, conditions: dict[str, bool] | None, zones: str, nodes: str) -> Pod:
        self._hosts[letter] += 1
        return Pod(letter, self._hosts[letter], conditions, tuple(zones.split()), tuple(nodes))

    def node_port(self) -> int:
        """The next free node port."""
        self._node_ports += 1
        return self._node_ports

    def cluster_ips(self, families: tuple[int, ...]) -> list[str]:
        """The next free cluster IPs, one per family."""
        self._addresses += 1
        return [f"10.96.0.{self._addresses}" if f == 4 else f"fd00:10:96::{self._addresses:x}" for f in families]

    def service(
        self,
        name: str,
        ports: str,
        groups: list[list[Pod]],
        families: tuple[int, ...] = (4, 6),
        ingress: list[Manifest] | None = None,
        labels: dict[str, str] | None = None,
        **spec: Any,
    ) -> None:
        """A Service with `ports` (separated by commas), and a slice for each group of pods.

        `spec` adds to a ClusterIP's; node ports are allocated as the API does.
        """
        listed = [Port.of(text) for text in ports.split(",")]
        ips = self.cluster_ips(families)
        made: Manifest = {
            "type": "ClusterIP",
            "clusterIP": ips[0],
            "clusterIPs": ips,
            "ipFamilies": [f"IPv{family}" for family in families],
            "ipFamilyPolicy": "RequireDualStack" if len(families) > 1 else "SingleStack",
            "ports": [port.spec() for port in listed],
            "selector": {"app": name},
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
        }
        made |= spec
        if made["type"] in ("NodePort", "LoadBalancer") or "externalIPs" in spec:
            made.setdefault("externalTrafficPolicy", "Cluster")
        if made["type"] == "NodePort" or (
            made["type"] == "LoadBalancer" and made.setdefault("allocateLoadBalancerNodePorts", True)
        ):
            for port in made["ports"]:
                port["nodePort"] = self.node_port()
        if made["type"] == "LoadBalancer" and made["externalTrafficPolicy"] == "Local":
            made["healthCheckNodePort"] = self.node_port()
        status = {"loadBalancer": {"ingress": ingress} if ingress else {}}
        self.create("services", name, {"spec": made, "status": status}, {"app": name, **(labels or {})})
        for letter, pods in zip("abcdefgh", groups, strict=False):
            self.new_slice(name, letter, pods, listed, families)

    def new_slice(self, name: str, letter: str, pods: list[Pod], ports: list[Port], families: tuple[int, ...]) -> None:
        """Add a slice of Service `name`, whether or not that Service exists."""
        self.slices[name, letter] = Slice(name, letter, families, ports, pods)
        self.write(name, letter)

    def create(self, resource: str, name: str, body: Manifest, labels: dict[str, str]) -> None:
        """Create any object."""
        uid = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{resource}.{name}"))
        meta: Manifest = {"name": name, "namespace": NAMESPACE, "uid": uid}
        if resource == "nodes":
            del meta["namespace"]
        meta["labels"] = labels
        self._put(resource, name, {**BY_NAME[resource].head, "metadata": meta, **body})

    def write(self, name: str, letter: str = "a") -> None:
        """Write the slice with its current pods, in every family; without pods it is the controller's placeholder."""
        piece = self.slices[name, letter]
        for family in piece.families:
            endpoints = [pod.endpoint(family) for pod in piece.pods]
            ports = [port.slice_entry() for port in piece.ports]
            body = {
                "addressType": f"IPv{family}",
                "endpoints": endpoints or None,
                "ports": ports if endpoints else None,
            }
            self.create("endpointslices", f"{name}-{letter}{family}", body, {SERVICE_NAME: piece.service})

    def manifest(self, resource: str, name: str) -> Manifest:
        """The current state of an object, not to be modified."""
        return self._objects[resource, name]

    def spec(self, name: str) -> Manifest:
        """A Service's current spec, not to be modified."""
        spec: Manifest = self.manifest("services", name)["spec"]
        return spec

    def edit(self, name: str, **fields: Any) -> None:
        """Change fields of a Service's spec; None removes a field, and `ingress` is a field of the status."""
        made = copy.deepcopy(self._objects["services", name])
        if "ingress" in fields:
            made["status"] = {"loadBalancer": {"ingress": fields.pop("ingress")}}
        spec = made["spec"] | fields
        made["spec"] = {key: value for key, value in spec.items() if value is not None}
        self._put("services", name, made)

    def edit_object(self, resource: str, name: str, path: tuple[str, ...], value: Any) -> None:
        """Set one field of any object."""
        made = copy.deepcopy(self._objects[resource, name])
        inner = made
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        self._put(resource, name, made)

    def again(self, resource: str, name: str) -> None:
        """Write the object unchanged, with a new resourceVersion."""
        self._put(resource, name, self._objects[resource, name])

    def delete(self, resource: str, name: str) -> None:
        """Delete the object."""
        made = self._objects.pop((resource, name))
        self._say("DELETED", resource, made)

    def delete_slice(self, name: str, letter: str = "a") -> None:
        """Delete the slice, in every family."""
        for family in self.slices.pop((name, letter)).families:
            self.delete("endpointslices", f"{name}-{letter}{family}")

    def wait(self, seconds: float = 5) -> None:
        """Let time pass, longer than a proxy's minSyncPeriod, so that later changes are in a separate sync."""
        self._now += round(seconds * SECOND)

    def mark(self, kind: str, resource: str, body: Manifest) -> None:
        """Write a marker, as a recorder does."""
        self._append(kind, resource, body)

    def list(self, resources: tuple[str, ...]) -> None:
        """Log the initial list, resource by resource; from here on every change is logged."""
        self._listing = False
        for resource in resources:
            for kind, name in sorted(self._objects):
                if kind == resource:
                    self._append("ADDED", resource, self._objects[kind, name])
            self._append("BOOKMARK", resource, bookmark(resource, self._version))

    def _put(self, resource: str, name: str, made: Manifest) -> None:
        kind = "MODIFIED" if (resource, name) in self._objects else "ADDED"
        self._objects[resource, name] = made
        self._say(kind, resource, made)

    def _say(self, kind: str, resource: str, made: Manifest) -> None:
        self._version += 1
        made["metadata"]["resourceVersion"] = str(self._version)
        if not self._listing:
            self._append(kind, resource, made)

    def _append(self, kind: str, resource: str, made: Manifest) -> None:
        if not self._listing and self.events and self._now:
            self._now += SECOND // 1000
        raw = msgspec.Raw(msgspec.json.encode(made))
        self.events.append(Event(len(self.events) + 1, self._now, kind, resource, raw))
