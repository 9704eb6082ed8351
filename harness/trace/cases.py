"""Acceptance cases as files: configuration, objects, and packets with what must become of them.

The format is a JSON object a file; `load` reads what it needs and refuses what it does not know, so
that no expectation is passed over in silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.addresses import parse_network
from engine.config import NEWEST, ProxyConfig
from harness.events import Event
from harness.oracle import Settings
from harness.oracle.settings import PROTOCOLS, packed
from harness.trace.packet import Outcome, Packet

RESOURCES = {"Service": "services", "EndpointSlice": "endpointslices", "Node": "nodes"}
SOURCES = ("pod-local", "pod-other-node", "external", "node-host")
OUTCOMES = ("dnat", "reject", "drop", "no-op")
_ADDED, _REMOVED = ("add", "create", "replace", "update", "apply"), ("delete", "remove")


class CaseError(ValueError):
    """A case that cannot be read; the message names file, field and what would be right."""


class Flow(NamedTuple):
    """The first packet of a connection and what must become of it; `origin` is one of SOURCES."""

    name: str
    origin: str
    packet: Packet
    expected: Outcome | None
    accepted: bool | None


class Stage(NamedTuple):
    """Changes, then what must hold: `events` to observe, flows, a sequence of connections, assertions."""

    events: tuple[tuple[str, str, bytes], ...]
    flows: tuple[Flow, ...]
    sequence: tuple[dict, ...]
    asserts: dict[str, Any]


class Case(NamedTuple):
    """One file. `raw` is its configuration as written."""

    name: str
    path: str
    modes: tuple[str, ...]
    families: tuple[int, ...]
    node: str
    stages: tuple[Stage, ...]
    partial: bool
    min_version: tuple[int, int]
    raw: dict[str, Any]

    def proxy_config(self, version: tuple[int, int] = NEWEST) -> ProxyConfig:
        """The engine's configuration for this case."""
        return proxy_config(self.settings(), version, self.raw.get("masqueradeBit", 14), self.raw.get("ipvs") or {})

    def settings(self) -> Settings:
        """The oracle's configuration for this case."""
        raw = self.raw
        mode = raw.get("detectLocalMode") or "ClusterCIDR"
        detect = raw.get("detectLocal") or {}
        interface = raw.get("bridgeInterface") or detect.get("bridgeInterface") or ""
        if mode == "InterfaceNamePrefix":
            interface = raw.get("interfaceNamePrefix") or detect.get("interfaceNamePrefix") or ""
        addresses = raw.get("nodePortAddresses")
        cidr = raw.get("clusterCIDR") or ""
        if mode == "NodeCIDR":
            cidr = ",".join(_pod_cidrs(self)) or cidr
        return Settings(
            cluster_cidr=cidr if isinstance(cidr, str) else ",".join(cidr),
            service_cidrs=tuple(raw.get("serviceCIDRs") or ()),
            detect_local_mode=mode,
            pod_interface=interface,
            masquerade_all=bool(raw.get("masqueradeAll")),
            node_port_addresses=None if addresses is None else tuple(addresses),
            localhost_node_ports=raw.get("localhostNodePorts") is not False,
            node_ips=tuple((raw.get("nodeIPs") or {}).values()),
            local_addresses=tuple(raw.get("localAddresses") or ()),
            feature_gates=raw.get("featureGates") or {},
        )


def proxy_config(settings: Settings, version: tuple[int, int], bit: int = 14, ipvs: dict | None = None) -> ProxyConfig:
    """The engine's configuration that says the same as the oracle's settings."""
    extra = {f"ipvs_{key}": value for key, value in (ipvs or {}).items() if f"ipvs_{key}" in _FIELDS}
    return ProxyConfig(
        pod_networks=tuple(parse_network(text) for text in settings.cluster_cidr.split(",") if text.strip()),
        service_networks=tuple(parse_network(text) for text in settings.service_cidrs),
        masquerade_all=settings.masquerade_all,
        masquerade_bit=bit,
        detect_local_mode=settings.detect_local_mode,
        pod_interface=settings.pod_interface,
        node_port_addresses=settings.node_port_addresses,
        localhost_node_ports=settings.localhost_node_ports,
        node_addresses=tuple(packed(text) for text in settings.node_ips),
        local_addresses=tuple(packed(text) for text in settings.local_addresses),
        feature_gates=settings.feature_gates,
        version=version,
        **extra,
    )


_FIELDS = ProxyConfig.__dataclass_fields__


def load(path: Path) -> Iterator[Case]:
    """The case of a file, or of each .json file of a directory in order; CaseError for what is wrong."""
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise CaseError(f"{path}: no .json file in this directory")
    else:
        files = [path]
    for file in files:
        yield _read(file)


def _read(path: Path) -> Case:
    try:
        raw = json.loads(path.read_text())
    except OSError as error:
        raise CaseError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CaseError(f"{path}: not JSON: {error}") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("config"), dict):
        raise CaseError(f"{path}: a JSON object with config, objects and flows is needed")
    try:
        return _case(path, raw)
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None
    except KeyError as error:
        raise CaseError(f"{path}: field {error} is missing") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise CaseError(f"{path}: {error}") from None


def _case(path: Path, raw: dict) -> Case:
    config = raw["config"]
    local = frozenset(packed(text) for text in config.get("localAddresses") or ())
    objects = [{"op": "add", "object": manifest} for manifest in raw.get("objects") or ()]
    stages = [_stage({**raw, "ops": objects}, local, config)]
    later = raw.get("then") or ()
    for step in [later] if isinstance(later, dict) else later:
        stages.append(_stage(step, local, config))
    families = {"IPv4": (4,), "IPv6": (6,)}.get(config.get("ipFamily"), (4, 6))
    return Case(
        raw.get("name") or path.stem,
        str(path),
        tuple(config.get("modes") or ()),
        families,
        config.get("nodeName") or "",
        tuple(stages),
        bool(raw.get("asserts_partial")),
        _version(raw.get("min_version")),
        config,
    )


def _version(text: str | None) -> tuple[int, int]:
    """The first number of `1.33(gate)/1.34`."""
    match = re.search(r"(\d+)\.(\d+)", text or "1.30")
    if match is None:
        raise CaseError(f"min_version {text!r} names no version such as 1.30")
    return int(match[1]), int(match[2])


def _stage(step: dict, local: frozenset[bytes], config: dict) -> Stage:
    flows = tuple(_flow(flow, local, config) for flow in step.get("flows") or ())
    sequence = tuple(_connection(entry, step, local, config) for entry in step.get("sequence") or ())
    events = tuple(_event(op) for op in step.get("ops") or ())
    return Stage(events, flows, sequence, step.get("asserts") or {})


def _event(op: dict) -> tuple[str, str, bytes]:
    manifest = op.get("object") or op.get("manifest") or {}
    if op.get("op") in _REMOVED and not manifest:
        meta = {"namespace": op.get("namespace", ""), "name": op["name"]}
        manifest = {"kind": op["kind"], "metadata": meta}
    elif op.get("op") not in _ADDED + _REMOVED:
        raise CaseError(f"op {op.get('op')!r} is none of {', '.join(_ADDED + _REMOVED)}")
    if manifest.get("kind") not in RESOURCES:
        raise CaseError(f"object of kind {manifest.get('kind')!r}; one of {', '.join(RESOURCES)} is needed")
    kind = "DELETED" if op["op"] in _REMOVED else "MODIFIED" if op["op"] in ("replace", "update") else "ADDED"
    return kind, RESOURCES[manifest["kind"]], json.dumps(manifest).encode()


def _flow(flow: dict, local: frozenset[bytes], config: dict) -> Flow:
    origin = flow["from"]
    if origin not in SOURCES:
        raise CaseError(f"flow {flow.get('name')!r}: from {origin!r} is none of {', '.join(SOURCES)}")
    source, destination = packed(flow["source_ip"]), packed(flow["dest_ip"])
    here = origin == "node-host"
    packet = Packet(
        source,
        destination,
        PROTOCOLS[(flow.get("protocol") or "TCP").upper()],
        int(flow["dest_port"]),
        here,
        destination in local or (here and source == destination),
        "" if here else interface_of(origin, config),
    )
    expect = flow.get("expect")
    accepted = (expect or {}).get("explicit_accept")
    return Flow(flow.get("name") or "", origin, packet, _expected(expect), accepted)


def interface_of(origin: str, config: dict) -> str:
    """Where such a client's packets come in: pods of this node on what the configuration names, if it does."""
    if origin != "pod-local":
        return "eth0"
    detect = config.get("detectLocal") or {}
    prefix = config.get("interfaceNamePrefix") or detect.get("interfaceNamePrefix")
    return config.get("bridgeInterface") or detect.get("bridgeInterface") or (f"{prefix}0" if prefix else "pods0")


def _expected(expect: dict | None) -> Outcome | None:
    if expect is None:
        return None
    if expect["outcome"] not in OUTCOMES:
        raise CaseError(f"outcome {expect['outcome']!r} is none of {', '.join(OUTCOMES)}")
    endpoints = frozenset(endpoint(text) for text in expect.get("endpoints") or ())
    return Outcome(expect["outcome"], endpoints, bool(expect.get("masquerade")))


def endpoint(text: str) -> tuple[bytes, int]:
    """`10.0.0.1:80` or `[fd00::1]:80` as (packed address, port)."""
    address, _, port = text.rpartition(":")
    return packed(address.strip("[]")), int(port)


def _connection(entry: dict, step: dict, local: frozenset[bytes], config: dict) -> dict:
    """A sequence's entry with its flow and its events worked out."""
    flow = dict((step.get("flows") or [{}])[entry.get("flow", 0)])
    flow.update(entry.get("via") or {})
    if entry.get("via"):
        flow.pop("expect", None)
    events = tuple(_event(op) for op in entry.get("ops") or ())
    wanted = entry.get("expect_endpoint", "any")
    return {"t": float(entry.get("t", 0)), "flow": _flow(flow, local, config), "wanted": wanted, "events": events}


def _pod_cidrs(case: Case) -> list[str]:
    """The pod CIDRs of the case's own Node (DET-02)."""
    for kind, resource, manifest in case.stages[0].events:
        node = json.loads(manifest) if resource == "nodes" and kind != "DELETED" else {}
        if (node.get("metadata") or {}).get("name") == case.node:
            spec = node.get("spec") or {}
            return spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return []


def as_events(stage: Stage, seq: int) -> list[Event]:
    """The stage's changes as a recording's events, numbered from `seq`."""
    import msgspec

    return [Event(seq + i, 0, kind, resource, msgspec.Raw(raw)) for i, (kind, resource, raw) in enumerate(stage.events)]
