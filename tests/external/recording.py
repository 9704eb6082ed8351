"""A small history of ClusterIP Services that any proxy can follow: `python -m tests.external.recording small.jsonl`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

CIDR = "10.0.0.0/16"
_HEADER = {
    "format": "kube-proxy-harness/recording", "version": 1, "resources": ["nodes", "services", "endpointslices"],
    "start": "2026-01-01T00:00:00Z", "cluster": {"name": "small", "clusterCIDR": CIDR},
}  # fmt: skip


def service(number: int) -> dict:
    spec = {"type": "ClusterIP", "clusterIP": f"172.30.0.{number}", "clusterIPs": [f"172.30.0.{number}"]}
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]
    meta = {"namespace": "shop", "name": f"s{number}"}
    return {"kind": "Service", "metadata": meta, "spec": spec | {"ipFamilies": ["IPv4"], "ports": ports}}


def slice_(number: int, *addresses: str) -> dict:
    ends = [{"addresses": [address], "conditions": {"ready": True}, "nodeName": "n2"} for address in addresses]
    meta = {"namespace": "shop", "name": f"s{number}-a", "labels": {"kubernetes.io/service-name": f"s{number}"}}
    ports = [{"name": "http", "protocol": "TCP", "port": 8080}]
    return {"kind": "EndpointSlice", "metadata": meta, "addressType": "IPv4", "ports": ports, "endpoints": ends}


def node() -> dict:
    status = {"addresses": [{"type": "InternalIP", "address": "192.168.0.2"}]}
    return {"kind": "Node", "metadata": {"name": "n1"}, "spec": {"podCIDR": "10.0.0.0/24"}, "status": status}


def write(path: Path) -> Path:
    """Three Services; endpoints come and go, a Service comes and one goes."""
    first = [("nodes", node())]
    for number in (1, 2, 3):
        first += [("services", service(number)), ("endpointslices", slice_(number, f"10.0.1.{number}"))]
    changes = [
        ("MODIFIED", "endpointslices", slice_(1, "10.0.1.1", "10.0.1.11")),
        ("MODIFIED", "endpointslices", slice_(1, "10.0.1.11")),
        ("MODIFIED", "endpointslices", slice_(2)),
        ("DELETED", "services", service(3)),
        ("ADDED", "services", service(4)),
        ("ADDED", "endpointslices", slice_(4, "10.0.1.4", "10.0.1.14")),
        ("MODIFIED", "endpointslices", slice_(2, "10.0.1.2")),
    ]
    lines: list[dict] = [_HEADER]
    for resource, manifest in first:
        lines.append({"seq": len(lines), "t": 0, "type": "ADDED", "resource": resource, "object": manifest})
    for second, (kind, resource, manifest) in enumerate(changes, 1):
        t = second * 10**9
        lines.append({"seq": len(lines), "t": t, "type": kind, "resource": resource, "object": manifest})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


if __name__ == "__main__":
    write(Path(sys.argv[1]))
