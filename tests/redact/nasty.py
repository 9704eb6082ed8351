"""A recording with everything that may identify a cluster, and with invalid parts."""

from __future__ import annotations

import json

import msgspec

from harness.log import initial_events_end, write_recording
from harness.log.events import FORMAT, VERSION, Event, Header

SERVICE = {
    "apiVersion": "v1", "kind": "Service",
    "metadata": {
        "name": "ledger", "namespace": "acme-payroll", "uid": "0b3c5a52-3c1e-4d5f-9f0e-2a8d7f6e5d4c",
        "generateName": "ledger-", "resourceVersion": "71", "selfLink": "/api/v1/namespaces/acme-payroll",
        "labels": {"app.kubernetes.io/name": "ledger", "acme.example/team": "payroll", "pod-template-hash": "6f9c",
                   "canary": "true", "version": "v1.2.3", "empty": ""},
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": json.dumps({"spec": {"owner": "the treasury"}}),
            "acme.example/note": "Ask for Ünïcode Œuvre, ext. 4711", "acme.example/gateway": "203.0.113.99",
            "service.kubernetes.io/topology-mode": "Auto",
            "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z",
        },
        "finalizers": ["acme.example/protect"], "creationTimestamp": "2025-12-31T12:00:00Z",
        "managedFields": [{"manager": "acme-operator"}],
        "ownerReferences": [{"apiVersion": "acme.example/v1", "kind": "AcmeLedger", "name": "ledger", "uid": "odd uid",
                             "controller": True}],
    },
    "spec": {
        "type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00:96::7"],
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
        "ports": [{"name": "acme-grpc", "port": 443, "targetPort": "acme-tls", "protocol": "TCP", "nodePort": 30443},
                  {"name": "metrics", "port": 9090, "targetPort": 9090, "appProtocol": "acme.example/proto"}],
        "selector": {"acme.example/team": "payroll"}, "externalIPs": ["8.8.4.4", "not-an-ip.acme.example", " "],
        "loadBalancerIP": "35.1.2.3", "loadBalancerClass": "acme.example/lb",
        "loadBalancerSourceRanges": ["35.1.0.0/16", " 10.0.0.0/9", "2600:1f00::/24"], "externalName": "db.acme.example",
        "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP", "healthCheckNodePort": 31000,
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}, "futureField": {"secret": "zebra"},
    },
    "status": {
        "loadBalancer": {"ingress": [{"ip": "35.1.2.3", "ipMode": "VIP", "hostname": "lb-7.eu.acme.example"}]},
        "conditions": [{"type": "AcmeReady", "status": "True", "message": "spoke to 10.9.8.7", "reason": "Fine"}],
    },
}  # fmt: skip

SLICE = {
    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
    "metadata": {"name": "ledger-x7k2p", "namespace": "acme-payroll",
                 "labels": {"kubernetes.io/service-name": "ledger",
                            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
    "addressType": "IPv4",
    "endpoints": [
        {"addresses": ["010.128.000.4"], "conditions": {"ready": True, "serving": None}, "hostname": "ledger-0",
         "nodeName": "ip-10-9-8-7.eu-west-1.compute.acme", "zone": "acme-dc1",
         "hints": {"forZones": [{"name": "acme-dc1"}]},
         "targetRef": {"kind": "Pod", "namespace": "acme-payroll", "name": "ledger-0", "uid": "1-2-3"},
         "deprecatedTopology": {"kubernetes.io/hostname": "ip-10-9-8-7.eu-west-1.compute.acme"}},
        {"addresses": ["127.0.0.9"], "conditions": None},
        {"addresses": ["FD00::A"], "conditions": {}},
    ],
    "ports": [{"name": "acme-grpc", "port": 8443}, {"name": None, "port": 1}, {"name": "metrics", "port": None}],
}  # fmt: skip

FQDN = {
    "metadata": {"name": "outside", "namespace": "acme-payroll", "labels": None}, "addressType": "FQDN",
    "endpoints": [{"addresses": ["db.acme.example"]}], "ports": None,
}  # fmt: skip

NODE = {
    "apiVersion": "v1", "kind": "Node",
    "metadata": {"name": "ip-10-9-8-7.eu-west-1.compute.acme",
                 "labels": {"topology.kubernetes.io/zone": "acme-dc1", "kubernetes.io/os": "linux",
                            "node-role.kubernetes.io/acme-gpu": "", "kubernetes.io/hostname": "10.9.8.7"}},
    "spec": {"podCIDR": "10.128.0.0/24", "podCIDRs": ["10.128.0.0/24"], "providerID": "aws:///eu/i-0abc",
             "taints": [{"key": "acme.example/gpu", "value": "a100", "effect": "NoSchedule"}]},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "10.9.8.7"}, {"type": "ExternalIP", "address": "35.9.8.7"},
                      {"type": "Hostname", "address": "ip-10-9-8-7.eu-west-1.compute.acme"}],
        "nodeInfo": {"machineID": "ec2abc", "kernelVersion": "6.1-acme"}, "images": [{"names": ["acme/ledger"]}],
        "capacity": {"cpu": "4", "acme.example/gpu": "1"},
        "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}],
    },
}  # fmt: skip

POD = {
    "metadata": {"name": "ledger-0", "namespace": "acme-payroll", "labels": {"acme.example/team": "payroll"}},
    "spec": {"nodeName": "ip-10-9-8-7.eu-west-1.compute.acme", "serviceAccountName": "acme-sa",
             "containers": [{"name": "app-ledger", "image": "registry.acme/ledger:7", "env": [{"name": "TOKEN_ACME"}],
                             "command": ["/acme"], "ports": [{"name": "acme-tls", "containerPort": 8443}],
                             "readinessProbe": {"httpGet": {"path": "/acme/healthz", "port": "acme-tls"}}}]},
    "status": {"phase": "Running", "podIP": "10.128.0.4", "podIPs": [{"ip": "10.128.0.4"}], "hostIP": "10.9.8.7"},
}  # fmt: skip

ODD_TYPES = {
    "metadata": {"name": "oddity", "namespace": "acme-payroll", "labels": ["acme-list"],
                 "annotations": {"k": {"acme": 1}}},
    "spec": {"clusterIP": "None", "ports": [{"port": "acme-number", "name": 7}, "acme-text", None, ["acme-nested"]],
             "selector": "acme-selector", "type": {"acme": "object"}, "externalIPs": {"acme": "8.8.8.8"}},
    "status": "acme-status",
}  # fmt: skip

SCHEMA_NAMED = {
    "metadata": {"name": "services", "namespace": "kubernetes", "labels": {"name": "Service", "spec": "TCP"}},
    "spec": {"clusterIP": "10.96.0.8", "ports": [{"name": "http", "port": 80}]},
}  # fmt: skip
"""Whose own names are words of the format: only their places tell that they are gone."""

MARKERS = [
    ("RELIST", "services", {"resourceVersion": "99", "namespace": "acme-payroll"}),
    ("GAP", "services", {"reason": "acme-api.acme.example: connection refused", "namespace": "acme-payroll"}),
    ("FAULT", "pods", {"fault": "pod-kill", "phase": "inject", "step": 1, "pods": ["acme-payroll/ledger-0"],
                       "nodes": ["ip-10-9-8-7.eu-west-1.compute.acme"], "parameters": {"why": "acme-drill"}}),
]  # fmt: skip

OBJECTS = [
    ("nodes", NODE), ("services", SERVICE), ("endpointslices", SLICE), ("endpointslices", FQDN), ("pods", POD),
    ("services", ODD_TYPES), ("services", SCHEMA_NAMED),
]  # fmt: skip


def write(path) -> None:
    """The recording: everything added, the markers, everything deleted, with gaps in seq."""
    events = [("ADDED", resource, manifest) for resource, manifest in OBJECTS]
    events += [(kind, resource, manifest) for kind, resource, manifest in MARKERS]
    events += [("DELETED", resource, manifest) for resource, manifest in OBJECTS]
    made = [
        Event(3 * n, 10**9 * n, kind, resource, msgspec.Raw(msgspec.json.encode(manifest)))
        for n, (kind, resource, manifest) in enumerate(events, 1)
    ]
    made.insert(len(OBJECTS), initial_events_end(3 * len(OBJECTS) + 1, 10**9 * len(OBJECTS), "services"))
    cluster = {"name": "acme-prod", "clusterCIDR": "10.128.0.0/9,fd00:128::/48", "serviceCIDRs": ["10.96.0.0/12"],
               "owner": "treasury"}  # fmt: skip
    generator = {"name": "acme-synth", "seed": 7}
    header = Header(FORMAT, VERSION, ("services", "pods", "acme-widgets"), "2026-01-01T00:00:00Z", cluster, generator)
    write_recording(path, header, made)
