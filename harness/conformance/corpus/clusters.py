"""A short notation for small clusters: objects with defaults, and packets between named places."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

CONFIG: dict[str, Any] = {
    "modes": ["nftables"],
    "ipFamily": "IPv4",
    "nodeName": "n1",
    "nodeIPs": {"IPv4": "192.168.0.2", "IPv6": "2001:db8::1"},
    "localAddresses": ["127.0.0.1", "192.168.0.2", "192.168.1.2", "::1", "2001:db8::1", "2001:db8:1::2"],
    "detectLocalMode": "ClusterCIDR",
    "clusterCIDR": "10.0.0.0/8,fd00:10::/32",
    "serviceCIDRs": ["172.30.0.0/16", "fd00:96::/112"],
    "nodePortAddresses": None,
    "featureGates": {},
}
POD, OTHER_POD, NODE, CLIENT = "10.0.0.2", "10.9.0.2", "192.168.0.2", "203.0.113.2"
CIP, EXT, LB, NODE_PORT = "172.30.0.41", "192.168.99.11", "1.2.3.4", 30001
E1, E2, E3 = "10.180.0.1", "10.180.1.1", "10.180.2.1"


def node(zone: str | None = None, name: str = "n1", **more: Any) -> Json:
    """A Node with the default addresses."""
    labels = {"topology.kubernetes.io/zone": zone} if zone is not None else {}
    status = {"addresses": [{"type": "InternalIP", "address": a} for a in ("192.168.0.2", "2001:db8::1")]}
    return {"kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status, **more}


def service(kind: str = "ClusterIP", *, name: str = "s1", meta: Json | None = None, **spec: Any) -> Json:
    """A Service with one port http; `lb` are ingress entries, `ports` (name, protocol, port, node port)."""
    listed = spec.pop("ports", [("http", "TCP", 80, NODE_PORT if kind != "ClusterIP" else 0)])
    ports = [{"name": n, "protocol": p, "port": port, **({"nodePort": np} if np else {})} for n, p, port, np in listed]
    ingress = [entry if isinstance(entry, dict) else {"ip": entry} for entry in spec.pop("lb", ())]
    cluster_ip = spec.pop("ip", CIP)
    base = {"type": kind, "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "ipFamilies": ["IPv4"], "ports": ports}
    return {
        "kind": "Service",
        "metadata": {"namespace": "ns", "name": name, **(meta or {})},
        "spec": base | spec,
        "status": {"loadBalancer": {"ingress": ingress}},
    }


def end(address: str, node_name: str | None = None, ready: Any = True, **more: Any) -> Json:
    """An endpoint; `ready` True, False, "draining" (serving and terminating) or "gone" (terminating only)."""
    conditions = {
        True: {"ready": True},
        False: {"ready": False, "serving": False},
        "draining": {"ready": False, "serving": True, "terminating": True},
        "gone": {"ready": False, "serving": False, "terminating": True},
        None: {},
    }[ready]
    local = {"nodeName": node_name} if node_name else {}
    return {"addresses": [address], "conditions": conditions, **local, **more}


def slice_(
    *ends: Json,
    name: str = "s1-a",
    of: str = "s1",
    family: str = "IPv4",
    ports: Any = None,
    **meta: Any,
) -> Json:
    """An EndpointSlice with port http 80."""
    return {
        "kind": "EndpointSlice",
        "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": of} | meta},
        "addressType": family,
        "endpoints": list(ends),
        "ports": ports or [{"name": "http", "port": 80, "protocol": "TCP"}],
    }


def flow(
    source: str, target: str, wanted: str, *ends: str, origin: str | None = None, accepted: bool | None = None
) -> Json:
    """`flow(POD, "172.30.0.41:80", "dnat", E1)`; `dnat+` is with masquerade, endpoints get port 80.

    `accepted`: whether a rule must accept an untranslated packet.
    """
    address, _, port = target.partition("/")[0].rpartition(":")
    guessed = {POD: "pod-local", OTHER_POD: "pod-other-node", NODE: "node-host", CLIENT: "external"}
    endpoints = [e if "]:" in e or e.count(":") == 1 else f"[{e}]:80" if ":" in e else f"{e}:80" for e in ends]
    expect: Json = {"outcome": wanted.rstrip("+"), "endpoints": endpoints, "masquerade": wanted.endswith("+")}
    expect |= {} if accepted is None else {"explicit_accept": accepted}
    return {
        "name": f"{source} to {target}",
        "from": origin or guessed.get(source, "pod-local"),
        "source_ip": source,
        "dest_ip": address.strip("[]"),
        "dest_port": int(port),
        "protocol": (target.partition("/")[2] or "tcp").upper(),
        "expect": expect,
    }
