"""Programs as text that a person can read and the tools take: ipset restore, iptables-restore, ipvsadm -R.

`UPDATE_GOLDEN=1 pytest tests/ipvs/test_golden.py` writes them again; read what changed before it is committed.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from engine.config import ProxyConfig
from engine.kernel.ipvs import IpvsMemory
from engine.proxier import Proxier
from harness.conformance.corpus.clusters import end, service, slice_
from harness.judge.oracle.settings import packed

GOLDEN = Path(__file__).parent / "golden"
NODES = (packed("192.168.0.2"), packed("2001:db8::1"))
CONFIG = ProxyConfig(node_addresses=NODES, local_addresses=NODES, ipvs_tcp_timeout_seconds=900)
ADDRESSES = {
    "ip": ("172.30.0.41", "192.168.99.11", "1.2.3.4", "10.180.0.1", "10.180.1.1", "203.0.113.0/24", "IPv4"),
    "ip6": ("fd00:96::29", "2001:db8:99::b", "2001:db8:1::4", "fd00:10::1", "fd00:10::2", "2001:db8:5::/48", "IPv6"),
}


class Keeping(IpvsMemory):
    """Keeps the text of each program by family."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[int, list[str]] = {4: [], 6: []}

    def apply(self, program):
        self.texts[program.family].append(program.text())
        return super().apply(program)


def texts(family: str) -> list[str]:
    """Of the start, of an endpoint that goes, and of the Service that goes."""
    cluster_ip, external, balancer, here, there, source, kind = ADDRESSES[family]
    sticky = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}}
    web = service("LoadBalancer", ip=cluster_ip, externalIPs=[external], lb=[balancer], ipFamilies=[kind],
                  loadBalancerSourceRanges=[source], externalTrafficPolicy="Local", healthCheckNodePort=32000,
                  **sticky)  # fmt: skip
    kernel = Keeping()
    proxier = Proxier("ipvs", CONFIG, kernel, time.perf_counter, "n1")
    changes = [
        [("ADDED", web), ("ADDED", slice_(end(here, "n1"), end(there, "n2"), family=kind))],
        [("MODIFIED", slice_(end(here, "n1"), family=kind))],
        [("DELETED", web)],
    ]
    for change in changes:
        for verb, manifest in change:
            resource = "services" if manifest["kind"] == "Service" else "endpointslices"
            proxier.state.observe(verb, resource, json.dumps(manifest).encode())
        proxier.sync()
    return kernel.texts[4 if family == "ip" else 6]


@pytest.mark.parametrize("family", ADDRESSES)
@pytest.mark.parametrize(("step", "name"), list(enumerate(["start", "endpoint-goes", "service-goes"])))
def test_programs_have_the_tools_format(family, step, name):
    path, found = GOLDEN / f"{family}-{name}.txt", texts(family)[step]
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(found)
    assert found == path.read_text()
