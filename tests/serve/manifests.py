"""Manifests that fill every column in every way; none has a creationTimestamp, so that pages stay the same."""

from __future__ import annotations

PORTS = [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "nodePort": 30053}]


def _service(name: str, status: dict | None = None, **spec) -> dict:
    return {"metadata": {"name": name}, "spec": spec, "status": status or {}}


def _slice(name: str, ports: list | None, addresses: list[str] | None) -> dict:
    endpoints = None if addresses is None else [{"addresses": [address]} for address in addresses]
    return {"metadata": {"name": name}, "addressType": "IPv4", "ports": ports, "endpoints": endpoints}


def _pod(name: str, status: dict, metadata: dict | None = None, **spec) -> dict:
    spec = {"containers": [{"name": "a"}, {"name": "b"}]} | spec
    return {"metadata": {"name": name} | (metadata or {}), "spec": spec, "status": status}


def _running(ready: bool, state: dict | None = None) -> dict:
    return {"ready": ready, "restartCount": 2, "state": state or {"running": {}}}


_EVENT = {"type": "Warning", "reason": "Unhealthy", "count": 3, "source": {"component": "kubelet", "host": "n1"}}

MANIFESTS: dict[str, list[dict]] = {
    "services": [
        _service("cluster", type="ClusterIP", clusterIP="10.0.0.1", ports=PORTS[:1], selector={"b": "2", "a": "1"}),
        _service("dual", clusterIPs=["10.0.0.2", "fd00::2"], ports=PORTS),
        _service("headless", clusterIP="None", ports=[], externalIPs=["192.0.2.9"]),
        _service("pending", type="LoadBalancer", clusterIP="10.0.0.3", ports=PORTS),
        _service(
            "balanced",
            {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example"}]}},
            type="LoadBalancer",
            clusterIP="10.0.0.4",
            ports=PORTS,
            externalIPs=["192.0.2.2"],
        ),
        _service("named", type="ExternalName", externalName="db.example"),
    ],
    "endpointslices.discovery.k8s.io": [
        _slice("full", [{"port": 80}, {"port": None}], ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"]),
        _slice("empty", None, None),
        _slice("named", [{"name": "http"}, {"name": "metrics", "port": 9090}, {"name": "", "port": None}], []),
        _slice("one", [{"port": n} for n in (1, 2, 3, 4)], ["10.1.0.1"]),
    ],
    "nodes": [
        {
            "metadata": {
                "name": "ready",
                "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/a": ""},
            },
            "spec": {"unschedulable": True},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [
                    {"type": "InternalIP", "address": "10.2.0.1"},
                    {"type": "ExternalIP", "address": "192.0.2.3"},
                ],
                "nodeInfo": {
                    "kubeletVersion": "v1.34.0",
                    "osImage": "Debian",
                    "kernelVersion": "6.1",
                    "containerRuntimeVersion": "containerd://2",
                },
            },
        },
        {"metadata": {"name": "lost"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
        {"metadata": {"name": "silent"}},
    ],
    "pods": [
        _pod(
            "running",
            {
                "phase": "Running",
                "podIP": "10.1.0.1",
                "containerStatuses": [_running(True), _running(False)],
                "conditions": [{"type": "lb", "status": "True"}],
            },
            nodeName="n1",
            readinessGates=[{"conditionType": "lb"}, {"conditionType": "other"}],
        ),
        _pod(
            "looping",
            {"phase": "Running", "containerStatuses": [_running(False, {"waiting": {"reason": "CrashLoopBackOff"}})]},
        ),
        _pod("ending", {"phase": "Running"}, {"deletionTimestamp": "2030-01-01T00:00:00Z"}),
        _pod("new", {"phase": "Pending"}),
    ],
    "namespaces": [{"metadata": {"name": "shop"}, "status": {"phase": "Active"}}],
    "events": [
        {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p"}, "message": " probe failed\n"}
        | _EVENT
    ],
    "events.events.k8s.io": [
        {
            "metadata": {"name": "e"},
            "regarding": {"kind": "Node", "name": "n"},
            "note": "started",
            "type": "Normal",
            "reason": "Starting",
            "reportingController": "kube-proxy",
            "reportingInstance": "n",
            "series": {"count": 4},
        }
    ],
    "servicecidrs.networking.k8s.io": [
        {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12", "fd00::/108"]}}
    ],
    "leases.coordination.k8s.io": [{"metadata": {"name": "node-1"}, "spec": {"holderIdentity": "node-1"}}],
}
