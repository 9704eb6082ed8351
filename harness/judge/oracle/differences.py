"""Where proxy modes behave differently for the same events: the rows of the CMP group that apply to a cluster.

Two sources: outcomes that the oracle computes per mode, and facts not visible in the outcome of any destination,
each with a function that finds the places concerned.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.judge.behaviour import PROTOCOL_NAMES, Behaviour, Destination, Outcome, Target
from harness.judge.oracle.modes import TRAITS

Views = dict[str, Behaviour]
"""Behaviour of one family by mode."""

ByMode = dict[str, Destination | None]
"""One destination by mode; None if the mode does not have it."""
_Row = tuple[str, str, tuple[tuple[str, str], ...]]
"""Fields of a Difference: id, what, by mode."""


@dataclass(frozen=True)
class Difference:
    """`id`: rule of the specification, or ""; `by_mode`: behaviour of each mode at `count` places."""

    id: str
    what: str
    by_mode: dict[str, str]
    count: int
    example: str


class _Fact(NamedTuple):
    id: str
    what: str
    by_mode: dict[str, str]
    concerned: Callable[[Views, bool], Iterable[Any]]


def differences(families: dict[int, Views], service_networks: bool) -> list[Difference]:
    """All differences between the modes, of both families; `service_networks`: whether service CIDRs are known."""
    found: dict[_Row, list[Any]] = {}
    for family, views in families.items():
        for key, places in (
            *_outcomes(views),
            *_node_addresses(views, family),
            *_facts(views, service_networks),
        ):
            found.setdefault(key, []).extend(places)
    rows = [
        Difference(number, what, dict(by_mode), len(places), place_in_words(min(places, key=repr)))
        for (number, what, by_mode), places in found.items()
    ]
    return sorted(rows, key=lambda row: (not row.id, row.id, row.what, row.example))


def _outcomes(views: Views) -> Iterable[tuple[_Row, list[Any]]]:
    """Destinations with different outcomes, or whose client address is hidden only in some modes."""
    places: dict[_Row, list[Any]] = {}
    for table in ("destinations", "nodeports"):
        keys = set[Any]().union(*(getattr(view, table) for view in views.values()))
        for key in sorted(keys):
            by_mode: ByMode = {mode: getattr(view, table).get(key) for mode, view in views.items()}
            everyone = frozenset[Target]().union(*(_targets(each) for each in by_mode.values()))
            ways = {mode: outcome_in_words(each, everyone) for mode, each in by_mode.items()}
            if len(set(ways.values())) > 1:
                places.setdefault((*_reason(by_mode), tuple(ways.items())), []).append(key)
                continue
            hidden = {mode: source_in_words(each) for mode, each in by_mode.items()}
            if len(set(hidden.values())) > 1:
                places.setdefault(("", "source address seen by endpoints", tuple(hidden.items())), []).append(key)
    return places.items()


def _reason(by_mode: ByMode) -> tuple[str, str]:
    """The rule that explains a difference in outcomes."""
    found = [each for each in by_mode.values() if each is not None]
    if len(found) < len(by_mode):
        return "CMP-01", "node ports without a matching node address"
    if any(each.external[0] == "drop" for each in found):
        return "CMP-06", "policy Local, only remote endpoints"
    if any(each.pod != each.external for each in found):
        return "CMP-07", "policy Local, bypassed by pods and node"
    return "", "which endpoints"


def _targets(destination: Destination | None) -> frozenset[Target]:
    """All endpoints that any kind of client may reach."""
    outcomes = destination.outcomes if destination else ()
    return frozenset[Target]().union(*(outcome[1] for outcome in outcomes if outcome[0] == "dnat"))


def outcome_in_words(destination: Destination | None, everyone: frozenset[Target]) -> str:
    """The outcomes for pods, the node and others; `everyone` are the endpoints of all modes."""
    if destination is None:
        return "left alone"
    columns = [_outcome(outcome, everyone) for outcome in destination.outcomes]
    if len(set(columns)) == 1:
        return columns[0]
    who = ("pods", "node", "others")
    groups = {text: [w for w, column in zip(who, columns, strict=True) if column == text] for text in columns}
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in groups.items())


def _outcome(outcome: Outcome, everyone: frozenset[Target]) -> str:
    if outcome[0] == "dnat" and outcome[1] != everyone:
        return "to fewer endpoints"
    return {"dnat": "forwarded", "reject": "refused", "drop": "dropped", "none": "left alone"}[outcome[0]]


def source_in_words(destination: Destination | None) -> str:
    """The source address that an endpoint sees."""
    replaced = destination.masquerade if destination else None
    if not replaced or not any(replaced):
        return "the client's"
    if all(replaced):
        return "the node's"
    return "the node's for " + ", ".join(w for w, r in zip(("pods", "node", "others"), replaced, strict=True) if r)


def _node_addresses(views: Views, family: int) -> Iterable[tuple[_Row, list[Any]]]:
    ports = sorted(set().union(*(view.nodeports for view in views.values())))
    taking = {mode: _taking(view) for mode, view in views.items()}
    if ports and len(set(taking.values())) > 1:
        yield ("CMP-01", f"IPv{family} addresses that accept node ports", tuple(taking.items())), ports


def _taking(view: Behaviour) -> str:
    if view.node_addresses is None:
        return "every local address"
    return ", ".join(str(ipaddress.ip_address(a)) for a in sorted(view.node_addresses)) or "none"


def _facts(views: Views, service_networks: bool) -> Iterable[tuple[_Row, list[Any]]]:
    for number, what, by_mode, concerned in FACTS:
        rows = {mode: by_mode.get(mode, by_mode["*"]) for mode in views}
        places = sorted(concerned(views, service_networks), key=repr)
        if places and len(set(rows.values())) > 1:
            yield (number, what, tuple(rows.items())), places


def _cluster_ips(views: Views, _known: bool) -> set[bytes]:
    # Mode iptables has no rule for a whole address; where cluster IPs are local, load balancer IPs are too.
    named = [set(view.cluster_ips) for mode, view in views.items() if TRAITS[mode].refuses_other_ports]
    return set.intersection(*named) if named else set()


def _unallocated(views: Views, known: bool) -> set[bytes]:
    return _cluster_ips(views, known) if known else set()


def _with(
    views: Views, fits: Callable[[Destination], bool], tables: tuple[str, ...] = ("destinations", "nodeports")
) -> list[Any]:
    listed = (item for view in views.values() for table in tables for item in getattr(view, table).items())
    return list(dict.fromkeys(key for key, each in listed if fits(each)))


def _shared_affinity(views: Views, _known: bool) -> list[Any]:
    return _with(views, lambda each: bool(each.affinity_seconds), ("nodeports",))


def _several(views: Views, _known: bool) -> list[Any]:
    return _with(views, lambda each: each.node[0] == "dnat" and len(each.node[1]) > 1)


def _restricted_and_empty(views: Views, _known: bool) -> list[Any]:
    return _with(views, lambda each: each.allowed is not None and each.node[0] == "reject")


FACTS = (
    _Fact(
        "CMP-03",
        "other ports of cluster IPs",
        {"iptables": "left alone", "*": "refused"},
        _cluster_ips,
    ),
    _Fact(
        "CMP-04",
        "unallocated service addresses",
        {"nftables": "dropped", "*": "left alone"},
        _unallocated,
    ),
    _Fact(
        "CMP-08",
        "source ranges, no endpoints, source not allowed",
        {"iptables": "refused", "userspace": "refused", "*": "dropped"},
        _restricted_and_empty,
    ),
    _Fact(
        "CMP-11",
        "scope of session affinity",
        {"ipvs": "at one address", "*": "at all addresses of a port"},
        _shared_affinity,
    ),
    _Fact(
        "CMP-14",
        "choice of endpoint",
        {"ipvs": "rr scheduler", "userspace": "round robin", "*": "random"},
        _several,
    ),
    _Fact(
        "CMP-16",
        "cluster IPs as local addresses",
        {"ipvs": "on kube-ipvs0", "userspace": "on lo", "*": "no"},
        _cluster_ips,
    ),
)


def place_in_words(place: Any) -> str:
    """An address, a destination or a node port in the usual notation."""
    if isinstance(place, bytes):
        return str(ipaddress.ip_address(place))
    *address, protocol, port = place
    where = f"{ipaddress.ip_address(address[0])} " if address else "node port "
    return f"{where}{PROTOCOL_NAMES.get(protocol, protocol)}/{port}"
