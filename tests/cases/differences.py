"""The mode table (CMP), as far as it affects packets, as one list.

Take what mode iptables does with a packet and apply each line of a mode that is true of the packet,
one after the other: that, exactly, is what the other mode does with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from harness.judge.oracle.packets import POD
from harness.judge.packet import Outcome

from .look import OUTSIDE, Look

NOTHING, REJECT, DROP = Outcome("no-op"), Outcome("reject"), Outcome("drop")


class Difference(NamedTuple):
    """If `when` applies, the outcome in `mode` is `gives` of the outcome so far."""

    mode: str
    ids: str
    what: str
    when: Callable[[Look], bool]
    gives: Callable[[Look, Outcome], Outcome]


def always(outcome: Outcome) -> Callable[[Look, Outcome], Outcome]:
    return lambda look, before: outcome


def masqueraded(a: Look) -> bool:
    """Whether ipvs replaces the source, hairpin apart (CIP-04, TRAF)."""
    if a.kind == "cluster IP":
        return a.settings.masquerade_all or (a.settings.detects_pods(a.size) and a.client != POD)
    return not a.is_local


def hairpin_here(a: Look, before: Outcome) -> Outcome:
    """For hairpin connections, mode nftables masquerades only this node's endpoints (HAIR-01a)."""
    own = {target for target in before.endpoints if target[0] == a.packet.source}
    if before.kind != "dnat" or not own or own & a.on_node:
        return before
    return Outcome(before.kind, before.endpoints, masqueraded(a))


def sent(a: Look, targets) -> Outcome:
    """The outcome of a packet to these endpoints in mode ipvs."""
    if not targets:
        return REJECT
    own = {target for target in a.on_node if target in targets and target[0] == a.packet.source}
    return Outcome("dnat", frozenset(targets), masqueraded(a) or bool(own))


def everywhere(a: Look):
    """The endpoints of policy Cluster; none if all traffic is policy Local (SVC-10)."""
    if a.kind == "cluster IP" and a.is_local and not a.accessible:
        return frozenset()
    return a.opened(a.packet._replace(source_local=False)).endpoints


DIFFERENCES = (
    Difference(
        "nftables", "CMP-03 TRAF-18", "another port of a cluster IP is refused",
        lambda a: a.kind == "other port of a cluster IP", always(REJECT)),
    Difference(
        "nftables", "CMP-04 TRAF-19", "an unallocated cluster IP is dropped",
        lambda a: a.kind == "" and a.in_service_cidrs, always(DROP)),
    Difference(
        "nftables", "CMP-01 CMP-02 NP-01 NP-06 NOEP-04", "node ports are the node's own address's alone by default,"
        " are never on loopback addresses, and are refused where they are taken alone",
        lambda a: a.at_loopback or (a.kind == "node port" and not a.takes_node_ports("primary")), always(NOTHING)),
    Difference(
        "nftables", "CMP-05 NOEP-03 NOEP-04", "no endpoints: the node's own packets are refused on their way out too",
        lambda a: a.kind in ("external IP", "balancer") and not a.some, always(REJECT)),
    Difference(
        "nftables", "CMP-08 LB-04", "source ranges hold whether or not there are endpoints",
        lambda a: a.barred and not a.some, always(DROP)),
    Difference(
        "ipvs", "CMP-03 CMP-16 IPVS-20", "any other port of an address that a Service has is refused",
        lambda a: a.kind.startswith("other port"), always(REJECT)),
    Difference(
        "ipvs", "CMP-01 CMP-02 NP-07", "node ports are never on loopback addresses, and are refused where they are"
        " taken alone",
        lambda a: a.at_loopback or (a.kind == "node port" and not a.takes_node_ports()), always(NOTHING)),
    Difference(
        "ipvs", "CMP-05 NOEP-05", "no endpoints: a virtual server without destinations refuses everyone",
        lambda a: a.kind in ("external IP", "balancer") and not a.some, always(REJECT)),
    Difference(
        "ipvs", "CMP-06 ETP-06", "policy Local without local endpoints goes elsewhere",
        lambda a: ipvs_serves(a) and a.is_local and not a.here, lambda a, _: sent(a, everywhere(a))),
    Difference(
        "ipvs", "CMP-07 ETP-07", "policy Local is so for pods and for the node too",
        lambda a: ipvs_serves(a) and a.kind in OUTSIDE and a.is_local and bool(a.here), lambda a, _: sent(a, a.here)),
    Difference(
        "nftables", "CMP-17", "an endpoint of another node that asks for itself keeps its address",
        lambda a: True, hairpin_here),
    Difference(
        "ipvs", "CMP-17 HAIR-02", "an endpoint that asks for itself is masqueraded on its own node alone",
        lambda a: True, lambda a, before: sent(a, before.endpoints) if before.kind == "dnat" else before),
    Difference(
        "ipvs", "LB-05", "source ranges are for others than the node, unless it asks for its own address",
        lambda a: a.barred and a.packet.source_local and not a.is_local, lambda a, _: sent(a, everywhere(a))),
    Difference(
        "ipvs", "CMP-08 LB-05", "source ranges hold whether or not there are endpoints",
        lambda a: a.barred and not a.packet.source_local, always(DROP)),
)  # fmt: skip


def ipvs_serves(a: Look) -> bool:
    """Whether a virtual server accepts the packet and has an endpoint for any client."""
    if a.kind == "node port" and (a.at_loopback or not a.takes_node_ports()):
        return False
    return a.kind in ("cluster IP", *OUTSIDE) and a.some


def in_mode(mode: str, a: Look, outcome: Outcome) -> Outcome:
    """The outcome that the table derives from that of mode iptables."""
    for difference in DIFFERENCES:
        if difference.mode == mode and difference.when(a):
            outcome = difference.gives(a, outcome)
    return outcome
