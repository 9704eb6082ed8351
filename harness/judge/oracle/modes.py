"""How the expected behaviour differs between modes; the oracle's own table, as it shares no code with the engine."""

from __future__ import annotations

from dataclasses import dataclass

ALWAYS = (0, 0)
"""A version that every supported one reaches."""


@dataclass(frozen=True)
class Traits:
    """One mode, in the terms of docs/kube-proxy.md.

    Addresses.  `holds_addresses`: Service addresses become local ones, with a virtual server or socket each (NP-07).
    `refuses_other_ports`: the other ports of a cluster IP are rejected (CIP-03).  `drops_unassigned`: packets to
    addresses of the cluster's Service CIDRs that no Service has are dropped (CIP-02).  `node_ports_on`: the default of
    nodePortAddresses (NP-01 to NP-03).  `opens_loopback`: node ports work on 127.0.0.0/8, so that the kernel's own
    protection of loopback is off (NP-05); `rejects_on_loopback`: they are rejected there (NP-12).
    `accepts_health_checks`: packets to health check ports are (IPT-06, IPVS-15).

    Outcomes.  `rejects_on_output`: the node's packets to a port without endpoints are rejected where they leave; else
    only on arrival, and then on any of its addresses (NOEP-03).  `drops_without_local`: a local policy without local
    endpoints drops, else it rejects.  `alike_for_all`: an external policy does not distinguish clients, and falls back
    to all endpoints (IPVS-08).  `undetected_pods_are_external`: if pods cannot be detected (ETP-05).
    `first_ranges_only`: of several Services with an address, only the first one's source ranges apply;
    `yields_without_endpoints`: the first is the first that has usable endpoints.

    Connections.  `by_sockets`: a process accepts them and connects itself, from the node's address.  `by_ip_vs`: the
    kernel's balancer does; it bars the node only from itself (LB-05), and masquerades between cluster IPs (CIP-04,
    IPVS-12).  `hairpins_of_node_since`: the version from which only the node's own endpoints are masqueraded when they
    reach themselves (HAIR-01a, HAIR-02); None: in all versions, all.  `sctp`: it is supported.

    State that is verified besides: `chains`, ip `sets`, the set of the node's `own_endpoints`.
    """

    holds_addresses: bool = False
    refuses_other_ports: bool = True
    node_ports_on: tuple[str, ...] = ()
    opens_loopback: bool = False
    rejects_on_loopback: bool = False
    accepts_health_checks: bool = False
    rejects_on_output: bool = True
    drops_without_local: bool = True
    drops_unassigned: bool = False
    alike_for_all: bool = False
    undetected_pods_are_external: bool = False
    first_ranges_only: bool = False
    yields_without_endpoints: bool = False
    by_sockets: bool = False
    by_ip_vs: bool = False
    hairpins_of_node_since: tuple[int, int] | None = None
    sctp: bool = True
    chains: bool = False
    sets: bool = False
    own_endpoints: bool = False


TRAITS = {
    "iptables": Traits(
        refuses_other_ports=False,
        opens_loopback=True,
        accepts_health_checks=True,
        rejects_on_output=False,
        undetected_pods_are_external=True,
        first_ranges_only=True,
        yields_without_endpoints=True,
        chains=True,
    ),
    "ipvs": Traits(
        holds_addresses=True,
        accepts_health_checks=True,
        drops_without_local=False,
        alike_for_all=True,
        by_ip_vs=True,
        hairpins_of_node_since=ALWAYS,
        sets=True,
    ),
    "nftables": Traits(
        node_ports_on=("primary",),
        rejects_on_loopback=True,
        drops_unassigned=True,
        yields_without_endpoints=True,
        hairpins_of_node_since=(1, 36),
        own_endpoints=True,
    ),
    "userspace": Traits(holds_addresses=True, drops_without_local=False, by_sockets=True, sctp=False),
}
