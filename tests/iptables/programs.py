"""Programs of small clusters, written short, and a kernel that keeps them."""

from __future__ import annotations

import json
import time

from engine.addresses import parse_address, parse_network
from engine.backends.iptables.program import IptablesProgram
from engine.config import ProxyConfig
from engine.kernel.iptables import IptablesMemory
from engine.proxier import Proxier
from harness.conformance.corpus.clusters import E1, E2, E3, EXT, LB, end, node, service, slice_

CONFIG = ProxyConfig(
    pod_networks=(parse_network("10.0.0.0/8"), parse_network("fd00:10::/32")),
    node_addresses=(parse_address("192.168.0.2"), parse_address("2001:db8::1")),
)
BOTH = (end(E1, "n1"), end(E2, "n2"))
CLUSTERS: dict[str, list[dict]] = {
    "no-services": [node()],
    "cluster-ip": [service(), slice_(*BOTH, end(E3, "n2"))],
    "no-endpoints": [service("LoadBalancer", lb=[LB], externalIPs=[EXT]), slice_()],
    "node-port-local": [service("NodePort", externalTrafficPolicy="Local"), slice_(*BOTH)],
    "local-elsewhere": [
        service("NodePort", externalTrafficPolicy="Local", internalTrafficPolicy="Local"),
        slice_(end(E2, "n2")),
    ],
    "source-ranges": [
        service(
            "LoadBalancer",
            lb=[LB],
            loadBalancerSourceRanges=["203.0.113.0/24", "192.168.0.0/16"],
            externalTrafficPolicy="Local",
            healthCheckNodePort=30100,
        ),
        slice_(*BOTH),
    ],
    "affinity": [
        service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 600}}),
        slice_(*BOTH),
    ],
    "ipv6": [
        service("NodePort", ip="fd00:96::1", ipFamilies=["IPv6"]),
        slice_(end("fd00:10::1", "n1"), family="IPv6"),
    ],
}
_RESOURCES = {"Service": "services", "EndpointSlice": "endpointslices", "Node": "nodes"}


class Keeping(IptablesMemory):
    """Remembers every program too."""

    def __init__(self) -> None:
        super().__init__()
        self.programs: list[IptablesProgram] = []

    def apply(self, program):
        self.programs.append(program)
        return super().apply(program)


def observe(proxier: Proxier, *objects: dict, event: str = "ADDED") -> None:
    """Feed objects."""
    for each in objects:
        proxier.state.observe(event, _RESOURCES[each["kind"]], json.dumps(each).encode())


def synced(kernel, *objects: dict, config: ProxyConfig = CONFIG) -> Proxier:
    """A proxier of node n1 after its first sync of these objects into `kernel`."""
    proxier = Proxier("iptables", config, kernel, time.perf_counter, "n1")
    observe(proxier, *objects)
    proxier.sync()
    return proxier


def program_of(cluster: str) -> IptablesProgram:
    """The first program of a cluster in its own family."""
    kernel = Keeping()
    synced(kernel, *CLUSTERS[cluster])
    family = 6 if cluster == "ipv6" else 4
    return next(program for program in kernel.programs if program.family == family)
