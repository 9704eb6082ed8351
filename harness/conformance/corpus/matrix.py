"""The outcome of a packet (TRAF) for each kind of destination, client, policy, and location of endpoints.  Pure.

Derived from the rules, independent of the oracle; a test compares both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from harness.conformance.corpus.clusters import CLIENT, E1, E2, NODE, POD, Json, end, flow, slice_
from harness.conformance.corpus.row import NP, C, L, Row, X, full

WAYS = {"cluster IP": C, "external IP": X, "balancer IP": L, "node port": NP}
CLIENTS = {"a pod": POD, "the node": NODE, "an external client": CLIENT}
_MODES = ("iptables", "nftables")


class Ends(NamedTuple):
    """The location of endpoints: those of this node, and all."""

    name: str
    here: tuple[str, ...]
    all: tuple[str, ...]


ENDS = (
    Ends("endpoints here and elsewhere", (E1,), (E1, E2)),
    Ends("endpoints here alone", (E1,), (E1,)),
    Ends("endpoints elsewhere alone", (), (E2,)),
    Ends("no endpoints", (), ()),
)


def rows() -> Iterator[Row]:
    """Every kind of destination with both policies; each case contains the packets of all clients."""
    for way, target in WAYS.items():
        for policy in ("Cluster", "Local"):
            for ends in ENDS:
                ids, flows = [], []
                for client, source in CLIENTS.items():
                    if not ends.all and client == "the node" and way in ("external IP", "balancer IP"):
                        continue  # where the modes differ (NOEP-03)
                    rule, wanted, reached = fate(way == "cluster IP", client, policy, ends)
                    ids.append(rule)
                    flows.append(flow(source, target, wanted, *reached))
                which = "internalTrafficPolicy" if way == "cluster IP" else "externalTrafficPolicy"
                name = f"{way}, {policy}, {ends.name}"
                yield Row(" ".join(dict.fromkeys(ids)), name, _objects(ends, **{which: policy}), flows, modes=_MODES)


def _objects(ends: Ends, **policy: str) -> list[Json]:
    return [full(**policy), slice_(*(end(each, "n1" if each in ends.here else "n2") for each in ends.all))]


def fate(inside: bool, client: str, policy: str, ends: Ends) -> tuple[str, str, tuple[str, ...]]:
    """The rule, its outcome, and the endpoints that may be chosen; `inside`: by the cluster IP."""
    if not ends.all:
        return "TRAF-17", "reject", ()
    if inside:
        masqueraded = "" if client == "a pod" else "+"
        if policy == "Cluster":
            return ("TRAF-01" if client == "a pod" else "TRAF-03"), f"dnat{masqueraded}", ends.all
        rule = "TRAF-02" if client == "a pod" else "TRAF-04"
        return (rule, f"dnat{masqueraded}", ends.here) if ends.here else (rule, "drop", ())
    if policy == "Cluster":
        rule = {"a pod": "TRAF-05", "the node": "TRAF-07", "an external client": "TRAF-09"}[client]
        return rule, "dnat+", ends.all
    if client == "an external client":
        return ("TRAF-10", "dnat", ends.here) if ends.here else ("TRAF-10", "drop", ())
    return ("TRAF-06", "dnat", ends.all) if client == "a pod" else ("TRAF-08", "dnat+", ends.all)
