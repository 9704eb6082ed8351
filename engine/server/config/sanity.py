"""Checks a valid configuration against the cluster's address families (CFG-09, CFG-10).

configuration + primary family + families of the host + pod CIDRs -> advice, problems, fatal or not
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from engine.config import NEWEST, NODE_PORT_KEYWORDS
from engine.modes import MODES
from engine.server.config.configuration import ConfigurationError, KubeProxyConfiguration
from engine.server.config.field_errors import aggregate
from engine.server.config.netaddr import families, is_dual_stack, parse_ip, split_host_port

INCOMPLETE = "Kube-proxy configuration may be incomplete or incorrect"
UNSET = (
    "nodePortAddresses is unset; NodePort connections will be accepted on all local IPs. "
    "Consider using `--nodeport-addresses primary`"
)


class Problem(NamedTuple):
    """One conflict with the cluster's families; a fatal one prevents the start."""

    text: str
    fatal: bool = False


def sanity(
    configuration: KubeProxyConfiguration,
    family: int,
    dual_stack: bool,
    pod_cidrs: Sequence[str] = (),
    version: tuple[int, int] = NEWEST,
) -> tuple[str, ...]:
    """Errors to log after `INCOMPLETE`, each as "err" of a separate line; ConfigurationError if one is fatal.

    `family` is the primary one (CFG-20), `dual_stack` means that the host has both, `pod_cidrs` are those of the
    Node, known in mode NodeCIDR only.
    """
    advice = list(_node_ports(configuration, family, pod_cidrs)) if version >= (1, 31) else []
    problems = list(_wrong_family(configuration, family, dual_stack, pod_cidrs, version))
    wrong = aggregate([problem.text for problem in problems]) if problems else ""
    if any(problem.fatal for problem in problems):
        raise ConfigurationError(f"kube-proxy configuration is incorrect: {wrong}")
    return tuple(each for each in (*advice, wrong) if each)


def _node_ports(c: KubeProxyConfiguration, family: int, pod_cidrs: Sequence[str]) -> Iterator[str]:
    """Warnings about node ports that are open on more addresses than expected."""
    texts = c.node_port_addresses
    # Each keyword applies to both families; a mode may have a default of its own.
    if set(texts) & set(NODE_PORT_KEYWORDS) or (not texts and c.mode in MODES and MODES[c.mode].node_ports_on):
        return
    ours, other = f"IPv{family}", f"IPv{10 - family}"
    in_family = families(texts).count(family)
    lists = (c.cluster_cidr.split(","), texts, c.ipvs.exclude_cidrs, pod_cidrs)
    only = "nodePortAddresses contains only {} addresses; NodePort connections will be accepted on all local {} IPs"
    if not texts:
        yield UNSET
    elif any(map(is_dual_stack, lists)) and in_family == len(texts):
        yield f"cluster appears to be dual-stack but {only.format(ours, other)}"
    elif not in_family:
        yield f"cluster appears to be {ours}-primary but {only.format(other, ours)}"


def _wrong_family(
    c: KubeProxyConfiguration, family: int, dual_stack: bool, pod_cidrs: Sequence[str], version: tuple[int, int]
) -> Iterator[Problem]:
    """Lists and addresses without any of the primary family."""
    bad = 10 - family
    cluster = f"cluster is IPv{family}-{'primary' if dual_stack else 'only'}"
    only = f"contains only IPv{bad} addresses"
    if _all_of(c.cluster_cidr.split(","), bad):
        fatal = c.detect_local_mode in ("", "ClusterCIDR") and not dual_stack
        yield Problem(f"{cluster} but clusterCIDRs {only}", fatal)
    if version < (1, 31) and _all_of(c.node_port_addresses, bad):
        yield Problem(f"{cluster} but nodePortAddresses {only}")
    if _all_of(pod_cidrs, bad):
        yield Problem(f"{cluster} but node.spec.podCIDRs {only}", c.detect_local_mode == "NodeCIDR")
    if _address_of(c.winkernel.source_vip, bad):
        yield Problem(f"{cluster} but winkernel.sourceVip is IPv{bad}")
    if dual_stack:
        return
    if _all_of(c.ipvs.exclude_cidrs, bad):
        yield Problem(f"{cluster} but ipvs.excludeCIDRs {only}")
    for name, text in (("healthz", c.healthz_bind_address), ("metrics", c.metrics_bind_address)):
        if _address_of((split_host_port(text) or ("", ""))[0], bad, unless_unspecified=True):
            yield Problem(f"{cluster} but {name}BindAddress is IPv{bad}")


def _all_of(cidrs: Sequence[str], family: int) -> bool:
    return set(families(cidrs)) == {family}


def _address_of(text: str, family: int, unless_unspecified: bool = False) -> bool:
    address = parse_ip(text)
    if address is None or (unless_unspecified and not any(address)):
        return False
    return (len(address) == 4) == (family == 4)
