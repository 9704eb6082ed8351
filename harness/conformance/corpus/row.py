"""The parts of rows: ids of rules, a cluster, packets, outcomes, and the modes to which they apply."""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.conformance.corpus.clusters import (
    CIP,
    E1,
    E2,
    EXT,
    LB,
    NODE_PORT,
    Json,
    end,
    flow,
    service,
    slice_,
)

C, X, L, NP = f"{CIP}:80", f"{EXT}:80", f"{LB}:80", f"192.168.0.2:{NODE_PORT}"
OUTSIDE = (NP, X, L)
ALL = (C, *OUTSIDE)


class Row(NamedTuple):
    """`asserts` and `config` as in a case file; `then` are (objects to replace or names to delete, flows).

    `modes` are those to which it applies; if modes differ (CMP) each has a separate row; `first` and `last` are the
    first and last Kubernetes version to which it applies.
    """

    ids: str
    name: str
    objects: list[Json]
    flows: list[Json]
    then: tuple[tuple[list[Json], list[Json]], ...] = ()
    asserts: Json | None = None
    config: dict[str, Any] = {}
    modes: tuple[str, ...] = ("iptables", "nftables")
    last: str | None = None
    first: str | None = None


NFTABLES, IPTABLES = ("nftables",), ("iptables",)


def full(**spec: Any) -> Json:
    """A Service with every kind of destination."""
    return service("LoadBalancer", externalIPs=[EXT], lb=[LB], **spec)


def flows(source: str, targets: tuple[str, ...], wanted: str, *ends: str, **more: Any) -> list[Json]:
    """The same expectation for several destinations."""
    return [flow(source, target, wanted, *ends, **more) for target in targets]


def local(*, cluster_too: bool = True) -> Json:
    """externalTrafficPolicy Local, and internal too unless `cluster_too`."""
    return {"externalTrafficPolicy": "Local"} | ({} if cluster_too else {"internalTrafficPolicy": "Local"})


def delete(kind: str, name: str) -> Json:
    """A delete operation."""
    return {"op": "delete", "kind": kind, "namespace": "" if kind == "Node" else "ns", "name": name}


def put(*objects: Json) -> list[Json]:
    """Replace operations."""
    return [{"op": "replace", "object": manifest} for manifest in objects]


BOTH = slice_(end(E1, "n1"), end(E2, "n2"))
HEADLESS = "service.kubernetes.io/headless"
PROXY_NAME = "service.kubernetes.io/service-proxy-name"
NAMES = "service.kubernetes.io/topology-mode"
TD_OFF = {"featureGates": {"ServiceTrafficDistribution": False}}
V6 = {"ipFamily": "IPv6"}


def ranged(*ranges: str, **more: Any) -> Json:
    """A Service with source ranges."""
    return full(loadBalancerSourceRanges=list(ranges), **more)


def hinted(address: str, *zones: str, on: str = "n2", nodes: tuple[str, ...] = (), ready: Any = True) -> Json:
    """An endpoint with hints."""
    hints = {"forZones": [{"name": z} for z in zones], "forNodes": [{"name": n} for n in nodes]}
    return end(address, on, ready, hints=hints)
