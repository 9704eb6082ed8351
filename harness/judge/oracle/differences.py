"""Where proxy modes mean different things by the same events: the rows of the CMP group that a cluster shows.

Two sources: outcomes that the oracle gives mode by mode, and facts that no outcome of a listed
destination shows, each with a finder of what they concern.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from harness.behaviour import Behaviour, Destination

Views = dict[str, Behaviour]
"""Behaviour of one family by mode."""

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}


class Difference(NamedTuple):
    """`id`: rule of the specification, "" where none is; `by_mode` says what each does with `count` places."""

    id: str
    what: str
    by_mode: dict[str, str]
    count: int
    example: str

    def as_json(self) -> dict[str, Any]:
        """As the comparison's JSON has it."""
        return self._asdict()


class _Fact(NamedTuple):
    id: str
    what: str
    by_mode: dict[str, str]
    concerned: Callable[[Views, bool], Iterable[Any]]


def differences(families: dict[int, Views], service_networks: bool) -> list[Difference]:
    """All that differ between the modes given, both families together; `service_networks`: whether they are known."""
    found: dict[tuple, list[Any]] = {}
    for family, views in families.items():
        for key, places in (
            *_outcomes(views),
            *_node_addresses(views, family),
            *_facts(views, service_networks),
        ):
            found.setdefault(key, []).extend(places)
    rows = [
        Difference(number, what, dict(by_mode), len(places), _name(min(places, key=repr)))
        for (number, what, by_mode), places in found.items()
    ]
    return sorted(rows, key=lambda row: (not row.id, row.id, row.what, row.example))


def _outcomes(views: Views) -> Iterable[tuple[tuple, list]]:
    """Destinations that lead to different outcomes, or hide the client's address in some modes only."""
    places = {}
    for table in ("destinations", "nodeports"):
        keys = set().union(*(getattr(view, table) for view in views.values()))
        for key in sorted(keys):
            told = {mode: getattr(view, table).get(key) for mode, view in views.items()}
            everyone = frozenset().union(*(_targets(each) for each in told.values()))
            ways = {mode: _way(each, everyone) for mode, each in told.items()}
            if len(set(ways.values())) > 1:
                places.setdefault((*_reason(told), tuple(ways.items())), []).append(key)
                continue
            hidden = {mode: _hidden(each) for mode, each in told.items()}
            if len(set(hidden.values())) > 1:
                places.setdefault(("", "whose address an endpoint sees", tuple(hidden.items())), []).append(key)
    return places.items()


def _reason(told: dict[str, Destination | None]) -> tuple[str, str]:
    """The rule that a difference of outcomes comes from."""
    if any(each is None for each in told.values()):
        return "CMP-01", "node ports where the node has no address for them"
    if any(each.external[0] == "drop" for each in told.values()):
        return "CMP-06", "policy Local, endpoints elsewhere only"
    if any(each.pod != each.external for each in told.values()):
        return "CMP-07", "pods and node past policy Local"
    return "", "which endpoints"


def _targets(destination: Destination | None) -> frozenset:
    """All endpoints that any kind of client gets."""
    sets = [outcome[1] for outcome in (destination or ())[:3] if outcome[0] == "dnat"]
    return frozenset().union(*sets)


def _way(destination: Destination | None, everyone: frozenset) -> str:
    if destination is None:
        return "left alone"
    columns = [_outcome(outcome, everyone) for outcome in destination[:3]]
    if len(set(columns)) == 1:
        return columns[0]
    who = ("pods", "node", "others")
    groups = {text: [w for w, column in zip(who, columns, strict=True) if column == text] for text in columns}
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in groups.items())


def _outcome(outcome: tuple, everyone: frozenset) -> str:
    if outcome[0] == "dnat" and outcome[1] != everyone:
        return "to fewer endpoints"
    return {"dnat": "forwarded", "reject": "refused", "drop": "dropped", "none": "left alone"}[outcome[0]]


def _hidden(destination: Destination | None) -> str:
    replaced = destination.masquerade if destination else None
    if not replaced or not any(replaced):
        return "the client's"
    if all(replaced):
        return "the node's"
    return "the node's for " + ", ".join(w for w, r in zip(("pods", "node", "others"), replaced, strict=True) if r)


def _node_addresses(views: Views, family: int) -> Iterable[tuple[tuple, list]]:
    ports = sorted(set().union(*(view.nodeports for view in views.values())))
    taking = {mode: _taking(view) for mode, view in views.items()}
    if ports and len(set(taking.values())) > 1:
        yield ("CMP-01", f"IPv{family} addresses that take node ports", tuple(taking.items())), ports


def _taking(view: Behaviour) -> str:
    if view.node_addresses is None:
        return "every local one"
    return ", ".join(str(ipaddress.ip_address(a)) for a in sorted(view.node_addresses)) or "none"


def _facts(views: Views, service_networks: bool) -> Iterable[tuple[tuple, list]]:
    for number, what, by_mode, concerned in FACTS:
        told = {mode: by_mode.get(mode, by_mode["*"]) for mode in views}
        places = sorted(concerned(views, service_networks), key=repr)
        if places and len(set(told.values())) > 1:
            yield (number, what, tuple(told.items())), places


def _cluster_ips(views: Views, _known: bool) -> set[bytes]:
    # No rule of mode iptables is about a whole address; where they are local, those of balancers are too.
    named = [set(view.cluster_ips) for mode, view in views.items() if mode != "iptables"]
    return set.intersection(*named) if named else set()


def _unallocated(views: Views, known: bool) -> set[bytes]:
    return _cluster_ips(views, known) if known else set()


def _with(views: Views, fits: Callable[[Destination], bool], tables=("destinations", "nodeports")) -> list:
    listed = (item for view in views.values() for table in tables for item in getattr(view, table).items())
    return list(dict.fromkeys(key for key, each in listed if fits(each)))


def _shared_affinity(views: Views, _known: bool) -> list:
    return _with(views, lambda each: bool(each.affinity_seconds), ("nodeports",))


def _several(views: Views, _known: bool) -> list:
    return _with(views, lambda each: each.node[0] == "dnat" and len(each.node[1]) > 1)


def _restricted_and_empty(views: Views, _known: bool) -> list:
    return _with(views, lambda each: each.allowed is not None and each.node[0] == "reject")


FACTS = (
    _Fact(
        "CMP-03",
        "a cluster IP's other ports",
        {"iptables": "left alone", "*": "refused"},
        _cluster_ips,
    ),
    _Fact(
        "CMP-04",
        "service addresses that nobody has",
        {"nftables": "dropped", "*": "left alone"},
        _unallocated,
    ),
    _Fact(
        "CMP-08",
        "source ranges, no endpoints, stranger",
        {"iptables": "refused", "userspace": "refused", "*": "dropped"},
        _restricted_and_empty,
    ),
    _Fact(
        "CMP-11",
        "a client stays with its endpoint",
        {"ipvs": "at one address", "*": "at all of a port's addresses"},
        _shared_affinity,
    ),
    _Fact(
        "CMP-14",
        "whose turn it is",
        {"ipvs": "rr scheduler", "userspace": "round robin", "*": "random"},
        _several,
    ),
    _Fact(
        "CMP-16",
        "cluster IPs among the node's addresses",
        {"ipvs": "on kube-ipvs0", "userspace": "on lo", "*": "no"},
        _cluster_ips,
    ),
)


def _name(place: Any) -> str:
    """An address, a destination or a node port as people write it."""
    if isinstance(place, bytes):
        return str(ipaddress.ip_address(place))
    *address, protocol, port = place
    where = f"{ipaddress.ip_address(address[0])} " if address else "node port "
    return f"{where}{_PROTOCOLS.get(protocol, protocol)}/{port}"
