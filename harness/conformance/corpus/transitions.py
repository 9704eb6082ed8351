"""Expectations during changes: open connections stay, stale flows are removed, existing rules are taken over.

A flow named `stand:KEY` is a further packet of the connection begun by an earlier `stand:KEY`; one named
`drain:SECONDS` is sent repeatedly from the change on, and after that time no packet may reach another endpoint.
"""

from __future__ import annotations

from typing import NamedTuple

from harness.conformance.corpus.clusters import CIP, CLIENT, E1, E2, E3, POD, Json, end, flow, service, slice_
from harness.conformance.corpus.row import ALL, BOTH, OUTSIDE, C, Row, delete, flows, full, local, put

_MODES = ("iptables", "nftables", "ipvs")
_RULED = ("iptables", "nftables")
DRAIN_SECONDS = 1.0
"""Generous for a sync of one Service with a minSyncPeriod of a millisecond."""


class Transition(NamedTuple):
    """A row, and the stages during whose changes the proxy is stopped."""

    row: Row
    restarts: frozenset[int] = frozenset()


def stand(source: str, target: str, wanted: str, *ends: str, key: str = "a") -> Json:
    """One packet of an open connection."""
    return flow(source, target, wanted, *ends) | {"name": f"stand:{key}"}


def drain(source: str, target: str, *ends: str) -> Json:
    """Packets sent from the change on."""
    return flow(source, target, "dnat", *ends) | {"name": f"drain:{DRAIN_SECONDS:g}"}


_DNS = [("dns", "UDP", 53, 30053)]
_DNS_PORTS = [{"name": "dns", "port": 53, "protocol": "UDP"}]
_UDP, _OUT = f"{CIP}:53/UDP", "192.168.0.2:30053/UDP"


def _udp(*ends: Json) -> Json:
    return slice_(*ends, ports=_DNS_PORTS)


def _at(address: str) -> str:
    return f"{address}:53"


ROWS = [
    Transition(
        Row(
            "CT-04 CT-08",
            "a UDP flow leaves an endpoint that is gone",
            [service(ports=_DNS), _udp(end(E1, "n1"))],
            [stand(POD, _UDP, "dnat", _at(E1))],
            ((put(_udp(end(E2, "n1"))), [flow(POD, _UDP, "dnat", _at(E2)), stand(POD, _UDP, "dnat", _at(E2))]),),
            modes=_MODES,
        )
    ),
    Transition(
        Row(
            "CT-04 CT-08",
            "a UDP flow by a node port leaves an endpoint that is gone",
            [service("NodePort", ports=_DNS), _udp(end(E1, "n1"))],
            [stand(CLIENT, _OUT, "dnat+", _at(E1))],
            (
                (
                    put(_udp(end(E2, "n1"))),
                    [flow(CLIENT, _OUT, "dnat+", _at(E2)), stand(CLIENT, _OUT, "dnat+", _at(E2))],
                ),
            ),
            modes=_RULED,
        )
    ),
    Transition(
        Row(
            "CT-04",
            "a UDP flow stays with its endpoint while others come and go",
            [service(ports=_DNS), _udp(end(E1, "n1"))],
            [stand(POD, _UDP, "dnat", _at(E1))],
            (
                (put(_udp(end(E1, "n1"), end(E2, "n1"), end(E3, "n2"))), [stand(POD, _UDP, "dnat", _at(E1))]),
                (put(_udp(end(E1, "n1"))), [stand(POD, _UDP, "dnat", _at(E1))]),
            ),
            modes=_MODES,
        )
    ),
    Transition(
        Row(
            "NOEP-01 CT-08",
            "a UDP flow from before there were endpoints finds the first one",
            [service(ports=_DNS), _udp()],
            [flow(POD, _UDP, "reject")],
            ((put(_udp(end(E1, "n1"))), [flow(POD, _UDP, "dnat", _at(E1))]),),
            modes=_RULED,
        )
    ),
    Transition(
        Row(
            "CT-01",
            "an established TCP connection stays though its endpoint leaves",
            [service(), slice_(end(E1, "n1"))],
            [stand(POD, C, "dnat", E1)],
            ((put(slice_(end(E2, "n1"))), [flow(POD, C, "dnat", E2), stand(POD, C, "dnat", E1)]),),
            modes=_RULED,
        )
    ),
    *(
        Transition(
            Row(
                "SYNC-02 EPS-02",
                f"no new connection goes to an endpoint {DRAIN_SECONDS:g} s after it has left, {how}",
                [service(), slice_(end(E1, "n1"), end(E2, "n2"))],
                [flow(POD, C, "dnat", E1, E2)],
                ((put(slice_(*left)), [drain(POD, C, E2), flow(POD, C, "dnat", E2)]),),
                modes=_MODES,
            )
        )
        for how, left in (
            ("deleted", [end(E2, "n2")]),
            ("not ready", [end(E1, "n1", False), end(E2, "n2")]),
            ("draining", [end(E1, "n1", "draining"), end(E2, "n2")]),
            ("gone", [end(E1, "n1", "gone"), end(E2, "n2")]),
        )
    ),
    Transition(
        Row(
            "ETP-01 ETP-02",
            "the external policy changes and changes back",
            [full(), BOTH],
            flows(CLIENT, OUTSIDE, "dnat+", E1, E2),
            (
                (put(full(**local())), flows(CLIENT, OUTSIDE, "dnat", E1)),
                (put(full()), flows(CLIENT, OUTSIDE, "dnat+", E1, E2)),
            ),
        )
    ),
    Transition(
        Row(
            "ITP-01 ITP-02",
            "the internal policy changes and changes back",
            [full(), BOTH],
            [flow(POD, C, "dnat", E1, E2)],
            (
                (put(full(internalTrafficPolicy="Local")), [flow(POD, C, "dnat", E1)]),
                (put(full()), [flow(POD, C, "dnat", E1, E2)]),
            ),
            modes=_MODES,
        )
    ),
    Transition(
        Row(
            "EPS-02",
            "an endpoint moves to another slice",
            [service(), slice_(end(E1, "n1"), end(E2, "n2"))],
            [flow(POD, C, "dnat", E1, E2)],
            (
                (
                    put(slice_(end(E1, "n1"), end(E2, "n2")), slice_(end(E2, "n2"), name="s1-b")),
                    [flow(POD, C, "dnat", E1, E2)],
                ),
                (put(slice_(end(E1, "n1"))), [flow(POD, C, "dnat", E1, E2)]),
                ([delete("EndpointSlice", "s1-b")], [flow(POD, C, "dnat", E1)]),
            ),
            modes=_MODES,
        )
    ),
    Transition(
        Row(
            "SVC-12",
            "a Service goes and comes back with another address",
            [service(), BOTH],
            [flow(POD, C, "dnat", E1, E2)],
            (
                ([delete("Service", "s1")], [flow(POD, C, "no-op")]),
                (put(service(ip="172.30.0.42")), [flow(POD, C, "no-op"), flow(POD, "172.30.0.42:80", "dnat", E1, E2)]),
            ),
            config={"serviceCIDRs": []},
            modes=_MODES,
        )
    ),
    Transition(
        Row(
            "SYNC-01",
            "a restart over existing rules keeps valid ones",
            [full(), BOTH],
            flows(CLIENT, ALL, "dnat+", E1, E2),
            (([], flows(CLIENT, ALL, "dnat+", E1, E2)),),
        ),
        frozenset((1,)),
    ),
    Transition(
        Row(
            "SYNC-01",
            "a restart over existing rules removes what was deleted meanwhile",
            [full(), BOTH],
            flows(CLIENT, ALL, "dnat+", E1, E2),
            (([delete("Service", "s1")], flows(CLIENT, ALL, "no-op")),),
            config={"serviceCIDRs": []},
        ),
        frozenset((1,)),
    ),
    Transition(
        Row(
            "SYNC-01 CT-04",
            "a UDP flow leaves an endpoint that went while the proxy was down",
            [service(ports=_DNS), _udp(end(E1, "n1"))],
            [stand(POD, _UDP, "dnat", _at(E1))],
            ((put(_udp(end(E2, "n1"))), [flow(POD, _UDP, "dnat", _at(E2)), stand(POD, _UDP, "dnat", _at(E2))]),),
        ),
        frozenset((1,)),
    ),
]
