"""Unused Services in a separate namespace, with slices not managed by a controller: added and removed by faults.

Each write is a single event that is never repeated: a proxy that misses it stays wrong.  Pure.
"""

from __future__ import annotations

from harness.kube.resources import ENDPOINT_SLICES, SERVICE_NAME, SERVICES, Manifest

NAMESPACE = "spare"
USUAL = 3
"""The number of Services without a fault, each with its slice."""
LARGEST = 1000
_NODE_PORT = 30110
_TYPES: dict[int, Manifest] = {
    1: {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30119},
    2: {"type": "NodePort"},
}
"""Types by number; the other Services are ClusterIP."""


def name_of(number: int) -> str:
    """The name of the Service and of its slice; numbers begin with 1."""
    return f"spare-{number}"


def family_of(number: int) -> int:
    """Every third one is IPv6, unlike all other Services of a lab, so that a proxy has to handle both families."""
    return 4 if number % 3 else 6


def service(number: int) -> Manifest:
    """The Service's manifest; number 1 also has a health check node port, number 2 a node port."""
    port: Manifest = {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}
    if number == 2:
        port["nodePort"] = _NODE_PORT
    family = family_of(number)
    address = f"10.112.{8 + number // 250}.{1 + number % 250}" if family == 4 else f"fd00:10:112::{number:x}"
    return {
        **SERVICES.head,
        "metadata": {"namespace": NAMESPACE, "name": name_of(number)},
        "spec": {
            **_TYPES.get(number, {"type": "ClusterIP"}),
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": [f"IPv{family}"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [port],
        },
        "status": {"loadBalancer": {}},
    }


def slice_of(number: int, host: int = 1) -> Manifest:
    """A slice with one endpoint, whose address no pod uses; `host` is its last octet and the number of its node."""
    conditions = {"ready": True, "serving": True, "terminating": False}
    family = family_of(number)
    address = f"10.120.{200 + number % 50}.{host}" if family == 4 else f"fd00:10:120:{number:x}::{host:x}"
    return {
        **ENDPOINT_SLICES.head,
        "metadata": {
            "namespace": NAMESPACE,
            "name": name_of(number),
            "labels": {SERVICE_NAME: name_of(number)},
        },
        "addressType": f"IPv{family}",
        "endpoints": [{"addresses": [address], "conditions": conditions, "nodeName": f"node-{host}"}],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }
