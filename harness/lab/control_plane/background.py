"""Synthetic Services that enlarge rule sets: in separate namespaces, with endpoints outside the lab."""

from __future__ import annotations

import msgspec

from harness.apiserver.store import Store


def add_background(store: Store, services: int, seed: int) -> None:
    """Add Services and their slices to the store."""
    if not services:
        return
    from harness.log.synth import (  # imported late, as most labs have none and the import is slow
        SynthOptions,
        generate,
    )

    _, events = generate(SynthOptions(services=services, churn=0, nodes=50, seed=seed))
    for event in events:
        if event.type == "ADDED" and event.resource == "endpointslices":
            store.put(event.resource, bytes(event.object), ordered=False)
        elif event.type == "ADDED" and event.resource == "services":
            store.put(event.resource, _inside_only(bytes(event.object)), ordered=False)


def _inside_only(raw: bytes) -> bytes:
    """The Service with only its cluster IP: node ports and load balancers are reserved for the lab's Services."""
    manifest = msgspec.json.decode(raw)
    outside = ("externalTrafficPolicy", "healthCheckNodePort", "externalIPs", "loadBalancerSourceRanges")
    spec = {key: value for key, value in manifest["spec"].items() if key not in outside}
    ports = [{k: v for k, v in port.items() if k != "nodePort"} for port in spec.get("ports") or ()]
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        spec["type"] = "ClusterIP"
    manifest |= {"spec": {**spec, "ports": ports}, "status": {"loadBalancer": {}}}
    return msgspec.json.encode(manifest)
