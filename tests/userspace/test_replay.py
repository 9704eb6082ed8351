"""A replay in userspace mode is verified from inside the node's namespace alone."""

from __future__ import annotations

import json

from click.testing import CliRunner

from harness.cli import main
from harness.kube.resources import ENDPOINT_SLICES, NODES, SERVICE_NAME, SERVICES

NODE = "192.168.10.1"
PORT = {"name": "web", "protocol": "TCP"}
OBJECTS = [
    {
        **NODES.head, "metadata": {"name": "node-1"},
        "status": {"addresses": [{"type": "InternalIP", "address": NODE}]},
    },
    {
        **SERVICES.head, "metadata": {"name": "edge", "namespace": "shop"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.43.0.20", "clusterIPs": ["10.43.0.20"], "ipFamilies": ["IPv4"],
            "externalIPs": ["192.168.10.9"], "ports": [PORT | {"port": 80, "targetPort": 8080, "nodePort": 30080}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": NODE}, {"ip": "192.168.10.2"}]}},
    },
    {
        **ENDPOINT_SLICES.head, "addressType": "IPv4", "ports": [PORT | {"port": 8080}],
        "metadata": {"name": "edge-1", "namespace": "shop", "labels": {SERVICE_NAME: "edge"}},
        "endpoints": [{"addresses": ["10.42.0.5"], "conditions": {"ready": True}, "nodeName": "node-1"}],
    },
]  # fmt: skip


def test_a_load_balancer_address_on_the_node(kernel_namespaces, tmp_path):
    dump = tmp_path / "dump.json"
    dump.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS}))
    done = CliRunner().invoke(main, ["replay", str(dump), "--mode", "userspace", "--cluster-cidr", "10.42.0.0/16"])
    assert done.exit_code == 0, done.output
    assert "verified: the kernel agreed" in done.output
