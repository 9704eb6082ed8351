"""One packet asked about in a recording or a dump: whose it is, where to, and what becomes of it."""

from __future__ import annotations

import ipaddress
import re
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.manifest import ManifestError
from engine.proxier import Proxier
from harness.events import OBJECT_TYPES, Event
from harness.oracle.settings import PROTOCOLS, Settings, packed
from harness.recording import Recording, open_source
from harness.recording.state import State, folded, key_of
from harness.trace.case_config import proxy_config
from harness.trace.packet import Packet
from harness.trace.run import Tracers, shown

_TO = re.compile(r"(?P<address>\[[0-9a-fA-F:.]+\]|[0-9.]+):(?P<port>\d+)(/(?P<protocol>\w+))?")
_SERVICE = re.compile(r"svc:(?P<namespace>[^/:]+)/(?P<name>[^/:]+)(:(?P<port>[^/:]+))?(/(?P<protocol>\w+))?")


@dataclass(frozen=True)
class _Cluster:
    """What OBJECTS say: manifests by resource and (namespace, name), and the events that led there."""

    header: dict[str, Any]
    objects: dict[str, dict[tuple[str, str], dict]]
    events: list[Event]
    first_node: str


def explain(
    path: str,
    source: str,
    target: str,
    mode: str,
    version: tuple[int, int],
    *,
    node: str | None = None,
    at: int | None = None,
    cluster_cidr: str | None = None,
) -> dict[str, Any]:
    """Packet, steps and outcome as JSON; ValueError for an unknown pod, Service or address."""
    with open_source(path) as recording:
        cluster = _read(recording, at)
        settings = Settings(
            cluster_cidr=cluster_cidr or cluster.header.get("clusterCIDR") or "",
            service_cidrs=tuple(cluster.header.get("serviceCIDRs") or ()),
        )
        addresses = _node_addresses(cluster, node or cluster.first_node)
        tracers = Tracers(mode, frozenset(addresses))
        proxier = Proxier(mode, proxy_config(settings, version), tracers, time.perf_counter, node)
        for event in cluster.events:
            try:
                proxier.state.observe(event.type, event.resource, event.object)
            except ManifestError as error:
                raise recording.error(event, f"{event.type} {event.resource}: {error}") from error
    proxier.sync()
    destination, protocol, port = _destination(cluster, target)
    packet = _packet(cluster, source, destination, protocol, port, addresses)
    if len(packet.source) != len(destination):
        raise ValueError(f"--from {source} and --to {target} are of different IP families")
    trace = tracers.of_family(4 if len(destination) == 4 else 6).trace(packet)
    return {
        "mode": mode,
        "node": proxier.state.node_name,
        "packet": f"{_text(packet.source)} -> {_text(destination)} {_name(protocol)}/{port}",
        "steps": list(trace.steps),
        "outcome": shown(trace.outcome),
    }


def _read(recording: Recording, at: int | None) -> _Cluster:
    state, events, first_node = State(), [], ""
    for event in folded(recording, state, until=at):
        events.append(event)
        if event.resource == "nodes" and event.type in OBJECT_TYPES:
            first_node = first_node or key_of(event)[2]
    objects: dict[str, dict[tuple[str, str], dict]] = {}
    for (resource, *name), manifest in state.objects.items():
        objects.setdefault(resource, {})[tuple(name)] = msgspec.json.decode(manifest)
    return _Cluster(recording.header.cluster, objects, events, first_node)


def _node_addresses(cluster: _Cluster, node: str) -> list[bytes]:
    manifest = cluster.objects.get("nodes", {}).get(("", node)) or {}
    listed = (manifest.get("status") or {}).get("addresses") or ()
    return [packed(a["address"]) for a in listed if a["type"] == "InternalIP"]


def _packet(cluster: _Cluster, source: str, destination: bytes, protocol: int, port: int, mine: list[bytes]) -> Packet:
    kind, _, rest = source.partition(":")
    ours = destination in mine or ipaddress.ip_address(destination).is_loopback
    if kind == "node":
        addresses = [packed(rest)] if rest else _own_sources(destination, mine)
        if not addresses:
            raise ValueError("--from node: the Node has no address of this family; write node:IP")
        return Packet(addresses[0], destination, protocol, port, True, ours)
    if kind == "external":
        return Packet(_address("--from", rest), destination, protocol, port, False, ours, "eth0")
    if kind == "pod":
        address = _pod_address(cluster, rest, len(destination))
        return Packet(address, destination, protocol, port, False, ours, "pods0")
    raise ValueError(f"--from {source!r} is none of pod:NAME, node, external:IP")


def _own_sources(destination: bytes, mine: list[bytes]) -> list[bytes]:
    """Addresses by which the node sends: to a loopback address from that very one."""
    if ipaddress.ip_address(destination).is_loopback:
        return [destination]
    return [a for a in mine if len(a) == len(destination)]


def _pod_address(cluster: _Cluster, name: str, size: int) -> bytes:
    """A pod's address: given, of its Pod object, or of an endpoint that names it."""
    try:
        return packed(name)
    except ValueError:
        pass
    namespace, _, pod = name.rpartition("/")
    found = set()
    for (space, each), manifest in cluster.objects.get("pods", {}).items():
        if each == pod and namespace in ("", space):
            status = manifest.get("status") or {}
            found |= {ip.get("ip") for ip in status.get("podIPs") or ()} | {status.get("podIP")}
    for (space, _), manifest in cluster.objects.get("endpointslices", {}).items():
        for endpoint in manifest.get("endpoints") or ():
            if (endpoint.get("targetRef") or {}).get("name") == pod and namespace in ("", space):
                found |= set(endpoint.get("addresses") or ())
    addresses = sorted({a for a in map(packed, filter(None, found)) if len(a) == size})
    if len(addresses) != 1:
        what = "no address of this family is known" if not addresses else "several pods have this name"
        raise ValueError(f"--from pod:{name}: {what}; write pod:NAMESPACE/NAME or pod:IP")
    return addresses[0]


def _destination(cluster: _Cluster, text: str) -> tuple[bytes, int, int]:
    match = _TO.fullmatch(text)
    if match:
        return _address("--to", match["address"].strip("[]")), _protocol(match["protocol"]), _port(match["port"])
    match = _SERVICE.fullmatch(text)
    if match is None:
        raise ValueError(f"--to {text!r} is neither IP:PORT[/udp|/sctp] ([IP6]:PORT) nor svc:NAMESPACE/NAME:PORT")
    service = cluster.objects.get("services", {}).get((match["namespace"], match["name"]))
    if service is None:
        raise ValueError(f"--to {text}: there is no Service {match['namespace']}/{match['name']}")
    for port in service["spec"].get("ports") or ():
        protocol = PROTOCOLS[port.get("protocol") or "TCP"]
        if match["port"] in (None, port.get("name"), str(port["port"])) and (
            match["protocol"] is None or protocol == _protocol(match["protocol"])
        ):
            return _address("--to", service["spec"].get("clusterIP") or ""), protocol, port["port"]
    raise ValueError(f"--to {text}: the Service has no such port")


def _address(option: str, text: str) -> bytes:
    try:
        return packed(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is not an IP address") from None


def _port(text: str) -> int:
    if not 0 < int(text) < 65536:
        raise ValueError(f"--to: port {text} is not between 1 and 65535")
    return int(text)


def _protocol(text: str | None) -> int:
    found = PROTOCOLS.get((text or "TCP").upper())
    if found is None:
        raise ValueError(f"--to: protocol {text!r} is none of tcp, udp, sctp")
    return found


def _name(protocol: int) -> str:
    return next(name.lower() for name, number in PROTOCOLS.items() if number == protocol)


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))
