"""The schema of redacted recordings: every field that is kept, and how it is mapped.

Other fields are dropped and counted.  A frozenset lists the values of an enum; other values of such a field are
mapped like names.  Numbers, true, false and null are kept everywhere.

    NAME         names of objects, namespaces, zones, hosts: one pseudonym for one string
    PORT         names of ports, or a port's number as text
    ADDRESS      addresses and blocks; other text is mapped like a name
    KEY          keys of labels, annotations, taints; those of Kubernetes itself stay
    LABELS, ANNOTATIONS   keys and values; the few values that the proxy or Kubernetes reads stay
    UID, VERSION, TIME    UIDs keep their form; versions and times are unchanged
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any


class MappingKind(Enum):
    """How the text in a field is mapped."""

    NAME = auto()
    PORT = auto()
    ADDRESS = auto()
    KEY = auto()
    LABELS = auto()
    ANNOTATIONS = auto()
    UID = auto()
    VERSION = auto()
    TIME = auto()


NAME, PORT, ADDRESS, KEY, LABELS, ANNOTATIONS, UID, VERSION, TIME = MappingKind
NUMBER: frozenset[str] = frozenset()
"""Fields for numbers or booleans: text is not kept."""

PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})
POLICIES = frozenset({"Cluster", "Local"})
STATUSES = frozenset({"True", "False", "Unknown"})
KINDS = frozenset({
    "Service", "EndpointSlice", "Endpoints", "Node", "Pod", "ReplicaSet", "Deployment", "StatefulSet", "DaemonSet",
    "Job", "CronJob", "ReplicationController", "Lease", "Namespace",
})  # fmt: skip
API_VERSIONS = frozenset({"v1", "apps/v1", "batch/v1", "discovery.k8s.io/v1", "coordination.k8s.io/v1"})

KEPT_KEYS = frozenset({
    "kubernetes.io/service-name", "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch",
    "kubernetes.io/metadata.name", "service.kubernetes.io/headless", "service.kubernetes.io/service-proxy-name",
    "service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints",
    "endpointslice.kubernetes.io/managed-by", "endpointslice.kubernetes.io/skip-mirror",
    "endpoints.kubernetes.io/last-change-trigger-time", "endpoints.kubernetes.io/over-capacity",
    "topology.kubernetes.io/zone", "topology.kubernetes.io/region", "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/os", "beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/exclude-from-external-load-balancers", "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable",
    "node.kubernetes.io/unschedulable", "node.kubernetes.io/out-of-service", "ToBeDeletedByClusterAutoscaler",
    "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component",
    "app.kubernetes.io/part-of", "app.kubernetes.io/version", "app.kubernetes.io/managed-by",
    "pod-template-hash", "controller-revision-hash", "statefulset.kubernetes.io/pod-name",
    "service.kubernetes.io/load-balancer-cleanup", "k8s.io/initial-events-end",
})  # fmt: skip
"""Keys of Kubernetes itself: the same in every cluster."""

KEPT_VALUES = {
    "service.kubernetes.io/topology-mode": frozenset({"Auto", "auto", "Disabled", "disabled"}),
    "service.kubernetes.io/topology-aware-hints": frozenset({"Auto", "auto", "Disabled", "disabled"}),
    "endpointslice.kubernetes.io/managed-by": frozenset(
        {"endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"}
    ),
    "endpoints.kubernetes.io/over-capacity": frozenset({"warning", "truncated"}),
    "kubernetes.io/os": frozenset({"linux", "windows"}),
    "beta.kubernetes.io/os": frozenset({"linux", "windows"}),
    "kubernetes.io/arch": frozenset({"amd64", "arm64"}),
    "beta.kubernetes.io/arch": frozenset({"amd64", "arm64"}),
}
"""Values with a defined meaning, by key; `true`, `false` and empty values are kept for every key."""

TIME_KEYS = frozenset({"endpoints.kubernetes.io/last-change-trigger-time"})

METADATA = {
    "name": NAME, "namespace": NAME, "generateName": NAME, "uid": UID, "resourceVersion": VERSION,
    "generation": NUMBER, "creationTimestamp": TIME, "deletionTimestamp": TIME,
    "deletionGracePeriodSeconds": NUMBER, "labels": LABELS, "annotations": ANNOTATIONS, "finalizers": [KEY],
    "ownerReferences": [{
        "apiVersion": API_VERSIONS, "kind": KINDS, "name": NAME, "uid": UID, "controller": NUMBER,
        "blockOwnerDeletion": NUMBER,
    }],
}  # fmt: skip
REFERENCE = {
    "apiVersion": API_VERSIONS, "kind": KINDS, "namespace": NAME, "name": NAME, "uid": UID, "resourceVersion": VERSION,
}  # fmt: skip
HEAD = {"apiVersion": API_VERSIONS, "kind": KINDS, "metadata": METADATA}
APP_PROTOCOLS = frozenset({
    "http", "https", "tcp", "tls", "grpc", "kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss",
})  # fmt: skip


def _conditions(*types: str) -> list[dict[str, Any]]:
    """Conditions; these types are kept, reasons and messages are dropped."""
    return [{
        "type": frozenset(types), "status": STATUSES, "lastTransitionTime": TIME, "lastHeartbeatTime": TIME,
        "lastProbeTime": TIME, "observedGeneration": NUMBER,
    }]  # fmt: skip


SERVICE = HEAD | {
    "spec": {
        "type": frozenset({"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}),
        "clusterIP": ADDRESS, "clusterIPs": [ADDRESS], "ipFamilies": [frozenset({"IPv4", "IPv6"})],
        "ipFamilyPolicy": frozenset({"SingleStack", "PreferDualStack", "RequireDualStack"}),
        "ports": [{
            "name": PORT, "protocol": PROTOCOLS, "appProtocol": APP_PROTOCOLS, "port": NUMBER, "targetPort": PORT,
            "nodePort": NUMBER,
        }],
        "selector": LABELS, "externalIPs": [ADDRESS], "externalName": NAME, "loadBalancerIP": ADDRESS,
        "loadBalancerClass": KEY, "loadBalancerSourceRanges": [ADDRESS],
        "allocateLoadBalancerNodePorts": NUMBER, "publishNotReadyAddresses": NUMBER,
        "externalTrafficPolicy": POLICIES, "internalTrafficPolicy": POLICIES,
        "trafficDistribution": frozenset({"PreferClose", "PreferSameZone", "PreferSameNode"}),
        "sessionAffinity": frozenset({"None", "ClientIP"}),
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": NUMBER}}, "healthCheckNodePort": NUMBER,
    },
    "status": {
        "loadBalancer": {
            "ingress": [{
                "ip": ADDRESS, "ipMode": frozenset({"VIP", "Proxy"}), "hostname": NAME,
                "ports": [{"port": NUMBER, "protocol": PROTOCOLS}],
            }],
        },
        "conditions": _conditions("LoadBalancerPortsError"),
    },
}  # fmt: skip

ENDPOINT_SLICE = HEAD | {
    "addressType": frozenset({"IPv4", "IPv6", "FQDN"}),
    "endpoints": [{
        "addresses": [ADDRESS], "conditions": {"ready": NUMBER, "serving": NUMBER, "terminating": NUMBER},
        "hostname": NAME, "targetRef": REFERENCE, "nodeName": NAME, "zone": NAME,
        "hints": {"forZones": [{"name": NAME}], "forNodes": [{"name": NAME}]}, "deprecatedTopology": LABELS,
    }],
    "ports": [{"name": PORT, "protocol": PROTOCOLS, "port": NUMBER, "appProtocol": APP_PROTOCOLS}],
}  # fmt: skip

NODE = HEAD | {
    "spec": {
        "podCIDR": ADDRESS, "podCIDRs": [ADDRESS], "unschedulable": NUMBER,
        "taints": [{
            "key": KEY, "value": NAME, "effect": frozenset({"NoSchedule", "PreferNoSchedule", "NoExecute"}),
            "timeAdded": TIME,
        }],
    },
    "status": {
        "addresses": [{
            "type": frozenset({"InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"}),
            "address": ADDRESS,
        }],
        "conditions": _conditions("Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"),
    },
}  # fmt: skip

_PORT_OF_PROBE = {"port": PORT, "scheme": frozenset({"HTTP", "HTTPS"})}
_PROBE = {
    "httpGet": _PORT_OF_PROBE, "tcpSocket": _PORT_OF_PROBE, "grpc": {"port": NUMBER}, "initialDelaySeconds": NUMBER,
    "periodSeconds": NUMBER, "timeoutSeconds": NUMBER, "successThreshold": NUMBER, "failureThreshold": NUMBER,
}  # fmt: skip
POD = HEAD | {
    "spec": {
        "nodeName": NAME, "hostNetwork": NUMBER, "hostname": NAME, "subdomain": NAME,
        "restartPolicy": frozenset({"Always", "OnFailure", "Never"}), "terminationGracePeriodSeconds": NUMBER,
        "readinessGates": [{"conditionType": KEY}],
        "containers": [{
            "name": NAME, "readinessProbe": _PROBE, "livenessProbe": _PROBE, "startupProbe": _PROBE,
            "ports": [{
                "name": PORT, "containerPort": NUMBER, "hostPort": NUMBER, "protocol": PROTOCOLS, "hostIP": ADDRESS,
            }],
        }],
    },
    "status": {
        "phase": frozenset({"Pending", "Running", "Succeeded", "Failed", "Unknown"}),
        "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}], "hostIP": ADDRESS, "hostIPs": [{"ip": ADDRESS}],
        "startTime": TIME,
        "conditions": _conditions(
            "Ready", "ContainersReady", "Initialized", "PodScheduled", "PodReadyToStartContainers", "DisruptionTarget"
        ),
        "containerStatuses": [{"name": NAME, "ready": NUMBER, "started": NUMBER, "restartCount": NUMBER}],
    },
}  # fmt: skip

MARKER = HEAD | {
    "namespace": NAME, "resourceVersion": VERSION,
    "fault": frozenset({
        "pod-kill", "pod-terminate", "pod-hang", "crash-loop", "slow-start", "readiness-flap", "probe-timeout",
        "node-loss", "node-drain", "node-cut", "engine-crash", "engine-restart", "engine-pause", "rules-flushed",
        "rules-damaged", "service-churn",
        "api-down", "api-slow", "watch-drop", "gone-storm", "broker-down", "packet-loss", "packet-delay",
        "endpoint-churn",
        "conntrack-full",
    }),
    "phase": frozenset({"inject", "heal", "heal-failed"}), "step": NUMBER,
    "pods": [NAME], "nodes": [NAME], "pod": NAME, "node": NAME, "target": NAME,
}  # fmt: skip
"""Markers (BOOKMARK, RELIST, GAP, FAULT): a fault's kind and targets are kept; free text is dropped."""

CLUSTER = {"name": NAME, "clusterCIDR": ADDRESS, "serviceCIDRs": [ADDRESS]}

OBJECTS: dict[str, Any] = {"services": SERVICE, "endpointslices": ENDPOINT_SLICE, "nodes": NODE, "pods": POD}
