"""The parts of a lab: names, addresses and manifests, derived from its options.

    outside 203.0.113.0/24 -- client
        |
      router (the supervisor's own namespace: API 10.10.0.1, routes of load balancer addresses)
        |  wire 10.10.0.0/24
      node-1, node-2, ... (pods 10.120.N.0/24, one veth each; caller-N is a client inside the cluster)

Pure: no process, no clock.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import msgspec

from harness.kube.resources import HOSTNAME, NODES, PODS, SERVICES, ZONE, Manifest
from harness.wording import plural

WIRE = ipaddress.ip_network("10.10.0.0/24")
API_ADDRESS, API_PORT = "10.10.0.1", 6443
POD_NETWORK = "10.120.0.0/16"
SERVICE_NETWORKS = ("10.112.0.0/16", "fd00:10:112::/112")
BALANCER_ADDRESS = "198.51.100.10"
CLIENT_ADDRESS, CLIENT_GATEWAY, CLIENT_PREFIX = "203.0.113.2", "203.0.113.1", 24
NAMESPACE = "lab"
APP = "web"
CLIENT = "client"
LARGEST = 30
"""Maximum number of nodes; the number of pods of a node is limited by its /24."""
HTTP_PORT, TCP_PORT, UDP_PORT = 8080, 9090, 9091


class LabOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How large a lab is and how its control plane behaves; durations in seconds.

    `exit_notice_seconds`: delay after which a kubelet notices that a container's process ended, None for
    never: then only probes detect it, as with a process that dies behind its container's init.
    `node_grace_seconds`: time without a kubelet's lease after which its node counts as lost.
    `kube_version` is the version of kube-proxy that the engines follow, "" for the newest.
    `sync_period_seconds`: interval at which an engine checks that its rules still exist.
    `external` is another proxy's command line, as words, to run on each node instead of the engine.
    `background_services` are added, with endpoints outside the lab, to make rule sets large.
    """

    nodes: int = 3
    pods: int = 12
    mode: str = "nftables"
    min_sync_period_seconds: float = 0.0
    sync_period_seconds: float = 30.0
    probe: dict[str, Any] = msgspec.field(default_factory=lambda: {"httpGet": {"path": "/healthz", "port": HTTP_PORT}})
    probe_period_seconds: int = 1
    probe_timeout_seconds: int = 1
    failure_threshold: int = 3
    success_threshold: int = 1
    initial_delay_seconds: int = 0
    exit_notice_seconds: float | None = None
    restart_seconds: float | None = None
    node_grace_seconds: float = 4.0
    grace_period_seconds: int = 5
    drain_seconds: float = 2.0
    background_services: int = 0
    seed: int = 0
    kube_version: str = ""
    external: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= LARGEST:
            raise ValueError(f"{plural(self.nodes, 'node')}; 1 to {LARGEST} fit a lab")
        if not 0 <= self.pods <= self.nodes * 100:
            raise ValueError(
                f"{plural(self.pods, 'pod')} on {plural(self.nodes, 'node')}; at most 100 per node fit a lab"
            )


class LabNode(msgspec.Struct, frozen=True):
    """A node; its namespace has the same name."""

    name: str
    address: str
    pod_network: str
    zone: str

    @property
    def caller(self) -> str:
        """The client that is a pod of this node."""
        return f"caller-{self.name.removeprefix('node-')}"

    @property
    def caller_address(self) -> str:
        """The second address of the pod network; the first is unused."""
        return self.pod_address(2)

    def pod_address(self, number: int) -> str:
        """The address with this number on the node."""
        return str(ipaddress.ip_network(self.pod_network)[number])


def nodes_of(options: LabOptions) -> tuple[LabNode, ...]:
    """All nodes, with zones assigned in turn."""
    return tuple(
        LabNode(f"node-{n}", str(WIRE[10 + n]), f"10.120.{n}.0/24", f"zone-{'abc'[(n - 1) % 3]}")
        for n in range(1, options.nodes + 1)
    )


def node_manifest(node: LabNode) -> Manifest:
    """A Node that is ready."""
    return {
        **NODES.head,
        "metadata": {
            "name": node.name,
            "labels": {HOSTNAME: node.name, ZONE: node.zone},
        },
        "spec": {"podCIDR": node.pod_network, "podCIDRs": [node.pod_network]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": node.address},
                {"type": "Hostname", "address": node.name},
            ],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def service_manifests() -> list[Manifest]:
    """The Services used by traffic: all kinds of frontends, session affinity, policy Local."""
    everything = (("http", "TCP", 80, HTTP_PORT), ("tcp", "TCP", 81, TCP_PORT), ("udp", "UDP", 82, UDP_PORT))
    return [
        _service("web", "10.112.0.10", everything, 30080, kind="LoadBalancer", balancer=BALANCER_ADDRESS),
        _service(
            "web-sticky", "10.112.0.11", everything[:1], 30090, kind="NodePort",
            sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 600}},
        ),
        _service(
            "web-local", "10.112.0.12", everything[:1], 30100, kind="LoadBalancer",
            externalTrafficPolicy="Local", healthCheckNodePort=30109,
        ),
    ]  # fmt: skip


def _service(
    name: str,
    address: str,
    ports: Iterable[tuple[str, str, int, int]],
    node_port: int,
    *,
    kind: str,
    balancer: str = "",
    **spec: Any,
) -> Manifest:
    listed = [
        {"name": n, "protocol": protocol, "port": port, "targetPort": target, "nodePort": node_port + offset}
        for offset, (n, protocol, port, target) in enumerate(ports)
    ]
    return {
        **SERVICES.head,
        "metadata": {"namespace": NAMESPACE, "name": name, "labels": {"app": APP}},
        "spec": {
            "type": kind,
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "selector": {"app": APP},
            "ports": listed,
            **spec,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": balancer}]} if balancer else {}},
    }


def pod_manifest(name: str, node: str, options: LabOptions) -> Manifest:
    """A pod of the lab's application, placed on a node."""
    probe = {
        **options.probe,
        "initialDelaySeconds": options.initial_delay_seconds,
        "periodSeconds": options.probe_period_seconds,
        "timeoutSeconds": options.probe_timeout_seconds,
        "successThreshold": options.success_threshold,
        "failureThreshold": options.failure_threshold,
    }
    ports = [("http", "TCP", HTTP_PORT), ("tcp", "TCP", TCP_PORT), ("udp", "UDP", UDP_PORT)]
    container: dict[str, Any] = {
        "name": APP,
        "image": "lab/web",
        "ports": [{"name": n, "protocol": p, "containerPort": number} for n, p, number in ports],
    }
    if options.probe:
        container["readinessProbe"] = probe
    return {
        **PODS.head,
        "metadata": {"namespace": NAMESPACE, "name": name, "labels": {"app": APP}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": options.grace_period_seconds,
            "containers": [container],
        },
        "status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]},
    }
