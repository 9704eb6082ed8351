"""The node's surroundings, derived from events alone: its addresses, pods, and the role of each address. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from harness.judge.behaviour import PROTOCOLS
from harness.judge.oracle.fold import Oracle
from harness.judge.oracle.rules import may_serve, ready
from harness.judge.oracle.settings import packed
from harness.log.events import JsonObject

Key = tuple[bytes, int, int]
Name = tuple[str, str]
CLUSTER, EXTERNAL, BALANCER = "cluster IP", "external IP", "balancer IP"


class Scene(NamedTuple):
    """One family: the node's addresses, local and remote endpoint addresses, and roles of service addresses."""

    node: tuple[bytes, ...]
    here: tuple[bytes, ...]
    elsewhere: tuple[bytes, ...]
    roles: dict[bytes, str]
    owners: dict[Name, frozenset[bytes]]


def scene(oracle: Oracle, family: int) -> Scene:
    """The scene after the events so far."""
    size = 4 if family == 4 else 16
    roles: dict[bytes, str] = {}
    owners: dict[Name, frozenset[bytes]] = {}
    for service in oracle.manifests("services"):
        found = {a: role for role, a in _addresses(service) if len(a) == size}
        owners[_name(service)] = frozenset(found)
        roles = found | roles
    here: set[bytes] = set()
    elsewhere: set[bytes] = set()
    for piece in oracle.manifests("endpointslices"):
        for endpoint in piece.get("endpoints") or ():
            own = oracle.node_name is not None and endpoint.get("nodeName") == oracle.node_name
            (here if own else elsewhere).update(_usable(endpoint.get("addresses") or (), size))
    node = _node_addresses(oracle, size)
    return Scene(node, tuple(sorted(here)), tuple(sorted(elsewhere - here)), roles, owners)


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
        if len(address) == size and not ipaddress.ip_address(address).is_unspecified:
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
    """One UDP port: endpoints that certainly serve, and all that may serve."""

    ready: frozenset[tuple[bytes, int]]
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
        frozenset(target for target, each in ends.items() if ready(each) or may_serve(each)),
    )
