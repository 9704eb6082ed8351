"""The node's surroundings, derived from events alone: its addresses, pods, and the role of each address. Pure."""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

from harness.judge.behaviour import PROTOCOLS
from harness.judge.oracle.fold import Oracle
from harness.judge.oracle.rules import draining, may_serve, ready
from harness.judge.oracle.settings import packed
from harness.log.events import JsonObject

Key = tuple[bytes, int, int]
Name = tuple[str, str]
CLUSTER, EXTERNAL, BALANCER = "cluster IP", "external IP", "balancer IP"


class FamilyAddresses(NamedTuple):
    """One family: the node's addresses, local and remote endpoint addresses, and roles of service addresses."""

    node: tuple[bytes, ...]
    here: tuple[bytes, ...]
    elsewhere: tuple[bytes, ...]
    roles: dict[bytes, str]
    owners: dict[Name, frozenset[bytes]]


def scene(oracle: Oracle, family: int) -> FamilyAddresses:
    """The scene after the events so far."""
    size = 4 if family == 4 else 16
    services = oracle.derived("services", f"addresses {size}", partial(_Owners, size))
    pods = oracle.derived("endpointslices", f"pods {size} {oracle.node_name}", partial(_Pods, size, oracle.node_name))
    roles, owners = dict(services.roles), dict(services.owners)
    return FamilyAddresses(_node_addresses(oracle, size), tuple(pods.here), tuple(pods.elsewhere), roles, owners)


class _Owners:
    """The addresses of each Service, and the role of each address, which its first owner decides."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._roles: dict[bytes, dict[Name, str]] = {}
        self.owners: dict[Name, frozenset[bytes]] = {}
        self.roles: dict[bytes, str] = {}

    def replace(self, name: Name, service: JsonObject | None) -> None:
        found = {a: role for role, a in _addresses(service) if len(a) == self._size} if service else {}
        old = self.owners.pop(name, frozenset())
        if service:
            self.owners[name] = frozenset(found)
        for address in old - found.keys():
            del self._roles[address][name]
        for address, role in found.items():
            self._roles.setdefault(address, {})[name] = role
        for address in old | found.keys():
            self._settle(address)

    def _settle(self, address: bytes) -> None:
        if self._roles[address]:
            self.roles[address] = next(iter(self._roles[address].values()))
        else:
            del self._roles[address], self.roles[address]


class _Pods:
    """Endpoint addresses on this node and elsewhere, each sorted; one that is on both counts as here."""

    def __init__(self, size: int, node: str | None) -> None:
        self._size, self._node = size, node
        self._of: dict[Name, tuple[frozenset[bytes], frozenset[bytes]]] = {}
        self._counts: tuple[Counter[bytes], Counter[bytes]] = (Counter(), Counter())
        self.here: list[bytes] = []
        self.elsewhere: list[bytes] = []

    def replace(self, name: Name, piece: JsonObject | None) -> None:
        old = self._of.pop(name, (frozenset(), frozenset()))
        new = self._ends(piece) if piece else (frozenset[bytes](), frozenset[bytes]())
        if piece:
            self._of[name] = new
        for counts, before, after in zip(self._counts, old, new, strict=True):
            counts.subtract(before)
            counts.update(after)
        for address in frozenset().union(*old, *new) - (old[0] & new[0]) - (old[1] & new[1]):
            here, elsewhere = (counts[address] > 0 for counts in self._counts)
            _keep(self.here, address, here)
            _keep(self.elsewhere, address, elsewhere and not here)

    def _ends(self, piece: JsonObject) -> tuple[frozenset[bytes], frozenset[bytes]]:
        here: set[bytes] = set()
        elsewhere: set[bytes] = set()
        for endpoint in piece.get("endpoints") or ():
            own = self._node is not None and endpoint.get("nodeName") == self._node
            (here if own else elsewhere).update(_usable(endpoint.get("addresses") or (), self._size))
        return frozenset(here), frozenset(elsewhere)


def _keep(listed: list[bytes], address: bytes, wanted: bool) -> None:
    """Add an address to a sorted list, or remove it."""
    at = bisect_left(listed, address)
    there = at < len(listed) and listed[at] == address
    if wanted and not there:
        listed.insert(at, address)
    elif there and not wanted:
        del listed[at]


def _name(manifest: JsonObject) -> Name:
    return manifest["metadata"].get("namespace") or "", manifest["metadata"]["name"]


def _addresses(service: JsonObject) -> Iterator[tuple[str, bytes]]:
    spec = service["spec"]
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    for role, texts in (
        (CLUSTER, [spec.get("clusterIP"), *(spec.get("clusterIPs") or ())]),
        (EXTERNAL, spec.get("externalIPs") or ()),
        (BALANCER, [each.get("ip") for each in ingress]),
    ):
        for size in (4, 16):
            yield from ((role, address) for address in _usable(texts, size))


def _usable(texts: Iterable[str | None], size: int) -> Iterator[bytes]:
    """Addresses of a family; invalid ones are skipped, as nothing can be sent there."""
    for text in texts:
        try:
            address = packed(text or "")
        except ValueError:
            continue
        if len(address) == size and any(address):  # 0.0.0.0 and :: are not addresses
            yield address


def _node_addresses(oracle: Oracle, size: int) -> tuple[bytes, ...]:
    """The known local addresses: configured, else those of the Node object."""
    configured = oracle.settings.local_addresses or oracle.settings.node_ips
    texts = list(configured)
    for node in oracle.manifests("nodes") if not configured else ():
        if node["metadata"]["name"] == oracle.node_name:
            listed = (node.get("status") or {}).get("addresses") or ()
            texts += [each["address"] for each in listed if each["type"] == "InternalIP"]
    mine = [*_usable(texts, size), *oracle.node_ips(size)]
    return tuple(dict.fromkeys(a for a in mine if not ipaddress.ip_address(a).is_loopback))


class Serving(NamedTuple):
    """One UDP port: endpoints that are ready, those that terminate but still serve, and all that may serve."""

    ready: frozenset[tuple[bytes, int]]
    draining: frozenset[tuple[bytes, int]]
    possible: frozenset[tuple[bytes, int]]


def serving(oracle: Oracle, family: int, key: Key) -> Serving | None:
    """Endpoints of the only Service port with this address and port, or node port; None if there is not exactly one."""
    size = 4 if family == 4 else 16
    address, protocol, number = key
    listed = [
        (service, port)
        for service in oracle.manifests("services")
        for port in service["spec"].get("ports") or ()
        if PROTOCOLS[port.get("protocol") or "TCP"] == protocol
    ]
    found = [(s, p) for s, p in listed if p["port"] == number and address in {a for _, a in _addresses(s)}]
    found = found or [(s, p) for s, p in listed if p.get("nodePort") == number]
    if len(found) != 1:
        return None
    service, port = found[0]
    ends = oracle.endpoints(_name(service), port, size)
    return Serving(
        frozenset(target for target, each in ends.items() if ready(each)),
        frozenset(target for target, each in ends.items() if draining(each)),
        frozenset(target for target, each in ends.items() if ready(each) or may_serve(each)),
    )
