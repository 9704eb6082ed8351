"""Traces one packet in a recording or dump: its source, its destination, and its fate."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from engine.config import NEWEST
from engine.manifest import ManifestError
from engine.proxier import Proxier
from harness.acceptance.case_config import proxy_config
from harness.acceptance.run import OutcomeFields, Tracers, shown
from harness.judge.behaviour import PROTOCOL_NAMES, PROTOCOLS
from harness.judge.oracle.settings import Settings, packed
from harness.judge.packet import Packet
from harness.log import Recording, open_source
from harness.log.events import Event, JsonObject
from harness.log.node_names import NodeNames
from harness.log.positions import Position
from harness.log.state import Key, State, folded, require
from harness.replay.effects import service_of

_TO = re.compile(r"(?P<address>\[[0-9a-fA-F:.]+\]|[0-9.]+):(?P<port>\d+)(/(?P<protocol>\w+))?")
_SERVICE = re.compile(r"svc:(?P<namespace>[^/:]+)/(?P<name>[^/:]+)(:(?P<port>[^/:]+))?(/(?P<protocol>\w+))?")


@dataclass(frozen=True)
class _Cluster:
    """The contents of OBJECTS: manifests by resource and (namespace, name), and their events."""

    header: JsonObject
    objects: dict[str, dict[tuple[str, str], JsonObject]]
    events: list[Event]


class Explanation(msgspec.Struct, frozen=True):
    """A packet's path through a node's rules, and its fate."""

    mode: str
    node: str | None
    packet: str
    steps: list[str]
    outcome: OutcomeFields


@dataclass(frozen=True)
class Question:
    """A packet `source` (pod:NAME, node, external:IP) to `target` (svc:NAMESPACE/NAME:PORT, IP:PORT), and the proxy."""

    source: str
    target: str
    mode: str
    version: tuple[int, int] = NEWEST
    cluster_cidr: str | None = None


def explain(path: str, question: Question, node: str | None = None, at: Position | None = None) -> Explanation:
    """Packet, steps and outcome; ValueError for an unknown pod, Service or address."""
    with open_source(path) as recording:
        nodes = NodeNames(path)
        cluster = _read(recording, at, nodes)
        nodes.require(node)
        nodes.note_deleted(node or nodes.first)
        return _explained(cluster, question, node, nodes.first, recording.error)


def explain_state(
    cluster: JsonObject, objects: Mapping[Key, msgspec.Raw], question: Question, node: str | None
) -> Explanation:
    """The same for given objects; `cluster` is that of the recording's header.

    ManifestError for an object that the API would never send.
    """
    events = [Event(number, 0, "ADDED", key[0], raw) for number, (key, raw) in enumerate(sorted(objects.items()))]
    first = node or next((key[2] for key in sorted(objects) if key[0] == "nodes"), None)
    return _explained(_Cluster(cluster, _decoded(objects), events), question, first, first)


def as_text(found: Explanation) -> str:
    """The explanation as human-readable text."""
    lines = [f"{found.packet}  ({found.mode}, node {found.node})"]
    for number, step in enumerate(found.steps, 1):
        rule, _, element = step.partition("    ")
        lines += [f"  {number:2} {rule}", *([f"       {element}"] if element else [])]
    return "\n".join([*lines, _sentence(found.outcome), ""])


def _sentence(outcome: OutcomeFields) -> str:
    if outcome["outcome"] != "dnat":
        meaning = {"reject": "rejected with an ICMP error", "drop": "silently dropped", "no-op": "left alone"}
        return f"=> {outcome['outcome']}: {meaning[outcome['outcome']]}"
    source = "source replaced by the node's address" if outcome["masquerade"] else "source kept"
    return f"=> dnat to {' or '.join(outcome['endpoints'])}, {source}"


def _explained(
    cluster: _Cluster,
    question: Question,
    node: str | None,
    first: str | None,
    error: Callable[[Event, str], Exception] | None = None,
) -> Explanation:
    """`first` is the node used without `node`; `error` creates the exception for a bad event."""
    settings = Settings(
        cluster_cidr=question.cluster_cidr or cluster.header.get("clusterCIDR") or "",
        service_cidrs=tuple(cluster.header.get("serviceCIDRs") or ()),
    )
    addresses = _node_addresses(cluster, node or first)
    tracers = Tracers(question.mode, frozenset(addresses))
    proxier = Proxier(question.mode, proxy_config(settings, question.version), tracers, time.perf_counter, node)
    destination, protocol, port = _destination(cluster, question.target)
    concerned = _concerned(cluster, destination, port, addresses)
    for event in cluster.events:
        if event.resource in ("services", "endpointslices") and service_of(event) not in concerned:
            continue  # none of its rules affects this packet
        try:
            proxier.state.observe(event.type, event.resource, event.object)
        except ManifestError as bad:
            if error is None:
                raise
            raise error(event, f"{event.type} {event.resource}: {bad}") from bad
    proxier.sync()
    packet = _packet(cluster, question.source, destination, protocol, port, addresses)
    if len(packet.source) != len(destination):
        raise ValueError(f"--from {question.source} and --to {question.target} are of different IP families")
    trace = tracers.of_family(4 if len(destination) == 4 else 6).trace(packet)
    words = f"{_text(packet.source)} -> {_text(destination)} {PROTOCOL_NAMES[protocol]}/{port}"
    return Explanation(question.mode, proxier.state.node_name, words, list(trace.steps), shown(trace.outcome))


def _read(recording: Recording, at: Position | None, nodes: NodeNames) -> _Cluster:
    state, events = State(), list[Event]()
    for event in folded(recording, state, until=at):
        events.append(event)
        nodes.observe(event)
    require(at, events[-1].seq if events else None)
    return _Cluster(recording.header.cluster, _decoded(state.objects), events)


def _decoded(objects: Mapping[Key, msgspec.Raw]) -> dict[str, dict[tuple[str, str], JsonObject]]:
    found: dict[str, dict[tuple[str, str], JsonObject]] = {}
    for (resource, namespace, name), manifest in objects.items():
        found.setdefault(resource, {})[namespace, name] = msgspec.json.decode(manifest)
    return found


def _node_addresses(cluster: _Cluster, node: str | None) -> list[bytes]:
    manifest = cluster.objects.get("nodes", {}).get(("", node or "")) or {}
    listed = (manifest.get("status") or {}).get("addresses") or ()
    return [packed(a["address"]) for a in listed if a["type"] == "InternalIP"]


def _concerned(cluster: _Cluster, destination: bytes, port: int, mine: list[bytes]) -> set[tuple[str, str]]:
    """Services that the packet may be for: by address, or, on an address of the node, by node port."""
    ours = destination in mine or ipaddress.ip_address(destination).is_loopback
    found = set()
    for name, manifest in cluster.objects.get("services", {}).items():
        spec = manifest.get("spec") or {}
        ingress = ((manifest.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        texts = [spec.get("clusterIP"), *(spec.get("clusterIPs") or ()), *(spec.get("externalIPs") or ())]
        texts += [each.get("ip") for each in ingress]
        by_port = ours and any(each.get("nodePort") == port for each in spec.get("ports") or ())
        if by_port or destination in filter(None, map(_packed, texts)):
            found.add(name)
    return found


def _packed(text: str | None) -> bytes | None:
    try:
        return packed(text) if text else None
    except ValueError:
        return None  # "None", or an external IP that is not an address


def _packet(cluster: _Cluster, source: str, destination: bytes, protocol: int, port: int, mine: list[bytes]) -> Packet:
    kind, _, rest = source.partition(":")
    ours = destination in mine or ipaddress.ip_address(destination).is_loopback
    if kind == "node":
        addresses = [packed(rest)] if rest else _own_sources(destination, mine)
        if not addresses:
            raise ValueError("--from node: the Node has no address of this family; write node:IP")
        return Packet(addresses[0], destination, protocol, port, source_local=True, destination_local=ours)
    if kind == "external":
        return Packet(_address("--from", rest), destination, protocol, port, destination_local=ours, interface="eth0")
    if kind == "pod":
        address = _pod_address(cluster, rest, len(destination))
        return Packet(address, destination, protocol, port, destination_local=ours, interface="pods0")
    raise ValueError(f"--from {source!r} is not one of pod:NAME, node, external:IP")


def _own_sources(destination: bytes, mine: list[bytes]) -> list[bytes]:
    """Source addresses of the node; for a loopback destination, that same address."""
    if ipaddress.ip_address(destination).is_loopback:
        return [destination]
    return [a for a in mine if len(a) == len(destination)]


def _pod_address(cluster: _Cluster, name: str, size: int) -> bytes:
    """A pod's address: as given, from its Pod object, or from an endpoint that references it."""
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
        raise ValueError(f"--to: protocol {text!r} is not one of tcp, udp, sctp")
    return found


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))
