"""Human-readable differences between expected and actual behaviour."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from harness.judge.behaviour import PROTOCOL_NAMES, Behaviour, Destination, Key
from harness.judge.readback.check_result import CheckResult, attempted, nothing


def compare(expected: Behaviour, actual: Behaviour, limit: int = 10) -> list[str]:
    """At most `limit` lines per kind; empty if both are equal."""
    found = []
    for what in ("destinations", "nodeports"):
        wanted, got = getattr(expected, what), getattr(actual, what)
        if what == "destinations":  # a cluster IP without endpoints is rejected by address only
            wanted = {k: v for k, v in wanted.items() if k in got or not _only_rejected(k, v, expected)}
        wrong = sorted(k for k in wanted.keys() | got.keys() if _differ(wanted.get(k), got.get(k)))
        found += [f"{_name(key)}: expected {wanted.get(key)}, kernel has {got.get(key)}" for key in wrong[:limit]]
    for what in ("cluster_ips", "node_addresses"):
        wrong = sorted((getattr(expected, what) or frozenset()) ^ (getattr(actual, what) or frozenset()))
        found += [f"{what}: {ipaddress.ip_address(address)} is on one side only" for address in wrong[:limit]]
    everywhere = [behaviour.node_addresses is None for behaviour in (expected, actual)]
    if actual.node_addresses != frozenset() and everywhere[0] != everywhere[1]:
        found.append(f"node ports on every local address: expected {everywhere[0]}, kernel has {everywhere[1]}")
    wrong = sorted(expected.health_check_ports ^ actual.health_check_ports)
    found += [f"health_check_ports: {port} is on one side only" for port in wrong[:limit]]
    return found


def by_behaviour(read: Callable[[], Behaviour | None], expected: Behaviour) -> CheckResult:
    """The result for one family, comparing behaviour only."""
    actual = attempted(read)
    if actual is None:
        return nothing(expected)
    found = [actual] if isinstance(actual, str) else compare(expected, actual)
    return CheckResult(found, {"destinations": len(expected.destinations) + len(expected.nodeports)}, ["rules"])


def _differ(wanted: Destination | None, got: Destination | None) -> bool:
    """Values that readback cannot determine are not compared."""
    if wanted is None or got is None:
        return wanted is not got
    masquerade = None if got.masquerade is None else wanted.masquerade
    seconds = None if got.affinity_seconds is None else wanted.affinity_seconds
    return wanted._replace(masquerade=masquerade, affinity_seconds=seconds) != got


def _only_rejected(key: Key, destination: Destination, expected: Behaviour) -> bool:
    return key[0] in expected.cluster_ips and all(outcome == ("reject",) for outcome in destination.outcomes)


def _name(key: Key | tuple[int, int]) -> str:
    address = f"{ipaddress.ip_address(key[0])} " if len(key) == 3 else "node port "
    return f"{address}{PROTOCOL_NAMES.get(key[-2], key[-2])}/{key[-1]}"
