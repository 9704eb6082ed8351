"""kube-proxy's warnings about a configuration that does not match the cluster's families (CFG-09, CFG-10)."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from engine.server.config.configuration import ConfigurationError
from engine.server.config.sanity import UNSET, sanity
from tests.server.error_rows import configured

P4 = {"node_port_addresses": ("primary",)}
V4, V6 = "10.0.0.0/8", "fd00::/48"


class Row(NamedTuple):
    """A configuration and a cluster, and what is said of them; fatal ones are refused with the last text."""

    fields: dict[str, object]
    said: list[str]
    family: int = 4
    dual: bool = True
    pods: tuple[str, ...] = ()
    fatal: bool = False
    version: tuple[int, int] = (1, 35)


def only(family: int, cluster: str, what: str) -> str:
    return f"cluster is {cluster} but {what} contains only IPv{family} addresses"


def open_on(family: int, seen: str, listed: int) -> str:
    return (
        f"cluster appears to be {seen} but nodePortAddresses contains only IPv{listed} addresses; "
        f"NodePort connections will be accepted on all local IPv{family} IPs"
    )


ROWS = {
    "nothing to say": Row(P4, []),
    "unset": Row({}, [UNSET]),
    "unset, in mode nftables": Row({"mode": "nftables"}, []),
    "unset, before 1.31": Row({}, [], version=(1, 30)),
    "one family in a single-stack cluster": Row({"node_port_addresses": (V4,)}, []),
    "one family in a dual-stack cluster": Row(
        {"node_port_addresses": (V4,), "cluster_cidr": f"{V4},{V6}"}, [open_on(6, "dual-stack", 4)]
    ),
    "dual-stack by the pods": Row({"node_port_addresses": (V4,)}, [open_on(6, "dual-stack", 4)], pods=(V4, V6)),
    "dual-stack by the excluded": Row(
        {"node_port_addresses": (V6,), "ipvs.exclude_cidrs": (V4, V6)}, [open_on(4, "dual-stack", 6)], family=6
    ),
    "both families": Row({"node_port_addresses": (V4, V6), "cluster_cidr": f"{V4},{V6}"}, []),
    "the other family": Row({"node_port_addresses": (V6,)}, [open_on(4, "IPv4-primary", 6)]),
    "the other family, IPv6 leads": Row({"node_port_addresses": (V4,)}, [open_on(6, "IPv6-primary", 4)], family=6),
    "the other family, before 1.31": Row(
        {"node_port_addresses": (V6,)}, [only(6, "IPv4-primary", "nodePortAddresses")], version=(1, 30)
    ),
    "cluster CIDR, dual": Row(P4 | {"cluster_cidr": V6}, [only(6, "IPv4-primary", "clusterCIDRs")]),
    "cluster CIDR, single": Row(
        P4 | {"cluster_cidr": V6}, [only(6, "IPv4-only", "clusterCIDRs")], dual=False, fatal=True
    ),
    "cluster CIDR, single, not used": Row(
        P4 | {"cluster_cidr": V4, "detect_local_mode": "NodeCIDR", "metrics_bind_address": "[::1]:10249"},
        [only(4, "IPv6-only", "clusterCIDRs")],
        family=6,
        dual=False,
    ),
    "cluster CIDRs of both": Row(P4 | {"cluster_cidr": f"{V6},{V4}"}, [], dual=False),
    "pods, in use": Row(
        P4 | {"detect_local_mode": "NodeCIDR"},
        [only(6, "IPv4-primary", "node.spec.podCIDRs")],
        pods=(V6,),
        fatal=True,
    ),
    "pods, not in use": Row(P4, [only(6, "IPv4-primary", "node.spec.podCIDRs")], pods=(V6,)),
    "sourceVip": Row(
        P4 | {"winkernel.source_vip": "fd00::1"}, ["cluster is IPv4-primary but winkernel.sourceVip is IPv6"]
    ),
    "excluded, dual": Row(P4 | {"ipvs.exclude_cidrs": (V6,)}, []),
    "excluded, single": Row(
        P4 | {"ipvs.exclude_cidrs": (V6,)}, [only(6, "IPv4-only", "ipvs.excludeCIDRs")], dual=False
    ),
    "addresses, dual": Row(P4 | {"healthz_bind_address": "[fd00::1]:10256"}, []),
    "addresses, single": Row(
        P4 | {"healthz_bind_address": "[fd00::1]:10256", "metrics_bind_address": "[::1]:10249"},
        ["[cluster is IPv4-only but healthzBindAddress is IPv6, cluster is IPv4-only but metricsBindAddress is IPv6]"],
        dual=False,
    ),
    "unspecified addresses suit any": Row(P4 | {"healthz_bind_address": "[::]:10256"}, [], dual=False),
    "0.0.0.0 too": Row(P4 | {"metrics_bind_address": "0.0.0.0:10249"}, [], family=6, dual=False),
    "advice and problems are two lines": Row(
        {"ipvs.exclude_cidrs": (V6,)}, [UNSET, only(6, "IPv4-only", "ipvs.excludeCIDRs")], dual=False
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_suspicious_configuration_is_warned_about(name):
    row = ROWS[name]

    def said():
        return list(sanity(configured(row.fields), row.family, row.dual, row.pods, row.version))

    if not row.fatal:
        assert said() == row.said
        return
    with pytest.raises(ConfigurationError) as refused:
        said()
    assert str(refused.value) == f"kube-proxy configuration is incorrect: {row.said[-1]}"
