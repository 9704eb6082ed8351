"""What rows are made of: the ids of rules they hold, a cluster, packets, outcomes, and the modes they hold in."""

from __future__ import annotations

from typing import Any, NamedTuple

from .clusters import (
    CIP,
    E1,
    E2,
    EXT,
    LB,
    NODE_PORT,
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

    `modes` are those in which it holds as written; where modes differ (CMP) each has a row of its own.
    """

    ids: str
    name: str
    objects: list[dict]
    flows: list[dict]
    then: tuple = ()
    asserts: dict | None = None
    config: dict[str, Any] = {}
    modes: tuple[str, ...] = ("iptables", "nftables")


NFTABLES, IPTABLES = ("nftables",), ("iptables",)


def full(**spec: Any) -> dict:
    """A Service reachable every way."""
    return service("LoadBalancer", externalIPs=[EXT], lb=[LB], **spec)


def flows(source: str, targets: tuple[str, ...], wanted: str, *ends: str, **more: Any) -> list[dict]:
    """The same expectation for several destinations."""
    return [flow(source, target, wanted, *ends, **more) for target in targets]


def local(*, cluster_too: bool = True) -> dict:
    """externalTrafficPolicy Local, and internal too unless `cluster_too`."""
    return {"externalTrafficPolicy": "Local"} | ({} if cluster_too else {"internalTrafficPolicy": "Local"})


def delete(kind: str, name: str) -> dict:
    """An op that deletes."""
    return {"op": "delete", "kind": kind, "namespace": "" if kind == "Node" else "ns", "name": name}


def put(*objects: dict) -> list[dict]:
    """Ops that replace."""
    return [{"op": "replace", "object": manifest} for manifest in objects]


BOTH = slice_(end(E1, "n1"), end(E2, "n2"))
HEADLESS = "service.kubernetes.io/headless"
PROXY_NAME = "service.kubernetes.io/service-proxy-name"
NAMES = "service.kubernetes.io/topology-mode"
TD_OFF = {"featureGates": {"ServiceTrafficDistribution": False}}
V6 = {"ipFamily": "IPv6"}


def ranged(*ranges: str, **more: Any) -> dict:
    """A Service with source ranges."""
    return full(loadBalancerSourceRanges=list(ranges), **more)


def hinted(address: str, *zones: str, on: str = "n2", nodes: tuple[str, ...] = (), ready: Any = True) -> dict:
    """An endpoint with hints."""
    hints = {"forZones": [{"name": z} for z in zones], "forNodes": [{"name": n} for n in nodes]}
    return end(address, on, ready, hints=hints)
