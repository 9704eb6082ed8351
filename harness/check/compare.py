"""Differences between what should be and what is, for people to read."""

from __future__ import annotations

import ipaddress

from harness.behaviour import Behaviour, Destination

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}


def compare(expected: Behaviour, actual: Behaviour, limit: int = 10) -> list[str]:
    """At most `limit` lines a kind; empty when both are the same."""
    found = []
    for what in ("destinations", "nodeports"):
        wanted, got = getattr(expected, what), getattr(actual, what)
        if what == "destinations":  # a cluster IP without endpoints is rejected by its address alone
            wanted = {k: v for k, v in wanted.items() if k in got or not _only_rejected(k, v, expected)}
        wrong = sorted(k for k in wanted.keys() | got.keys() if _differ(wanted.get(k), got.get(k)))
        found += [f"{_name(key)}: expected {wanted.get(key)}, kernel has {got.get(key)}" for key in wrong[:limit]]
    for what in ("cluster_ips", "node_addresses"):
        wrong = sorted((getattr(expected, what) or frozenset()) ^ (getattr(actual, what) or frozenset()))
        found += [f"{what}: {ipaddress.ip_address(address)} is on one side only" for address in wrong[:limit]]
    return found


def _differ(wanted: Destination | None, got: Destination | None) -> bool:
    """What a read-back cannot tell is not held against it."""
    if wanted is None or got is None:
        return wanted is not got
    untold = {name: None for name in ("masquerade", "affinity_seconds") if getattr(got, name) is None}
    return wanted._replace(**untold) != got


def _only_rejected(key, destination, expected: Behaviour) -> bool:
    return key[0] in expected.cluster_ips and destination[:3] == (("reject",),) * 3


def _name(key) -> str:
    address = f"{ipaddress.ip_address(key[0])} " if len(key) == 3 else "node port "
    return f"{address}{_PROTOCOLS.get(key[-2], key[-2])}/{key[-1]}"
