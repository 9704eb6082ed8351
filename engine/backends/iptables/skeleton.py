"""The parts of iptables mode that do not depend on Services: jumps, fixed chains, and access to node ports."""

from __future__ import annotations

from engine.addresses import LOOPBACK, contains, format_address, is_loopback
from engine.backends.iptables.names import (
    CANARY,
    EXTERNAL_SERVICES,
    FORWARD,
    LOCALNET_FIREWALL,
    MARK_MASQ,
    NODE_PORTS,
    POSTROUTING,
    PROXY_FIREWALL,
    SERVICES,
)
from engine.backends.iptables.program import Jump, Rules
from engine.config import ProxyConfig
from engine.model import ADDRESS_BYTES, Address, HostAddresses

BUILT_IN = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
"""Built-in chains, by table."""

TABLES = tuple(BUILT_IN)
_NEW = "-m conntrack --ctstate NEW "
_LAST = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"


def _comment(text: str) -> str:
    return f'-m comment --comment "{text}"'


_JUMPS = (
    ("filter", "INPUT", _NEW, "kubernetes externally-visible service portals", EXTERNAL_SERVICES),
    ("filter", "FORWARD", _NEW, "kubernetes externally-visible service portals", EXTERNAL_SERVICES),
    ("filter", "INPUT", "", "kubernetes health check service ports", NODE_PORTS),
    ("filter", "FORWARD", _NEW, "kubernetes service portals", SERVICES),
    ("filter", "OUTPUT", _NEW, "kubernetes service portals", SERVICES),
    ("filter", "FORWARD", "", "kubernetes forwarding rules", FORWARD),
    ("filter", "INPUT", _NEW, "kubernetes load balancer firewall", PROXY_FIREWALL),
    ("filter", "OUTPUT", _NEW, "kubernetes load balancer firewall", PROXY_FIREWALL),
    ("filter", "FORWARD", _NEW, "kubernetes load balancer firewall", PROXY_FIREWALL),
    ("nat", "OUTPUT", "", "kubernetes service portals", SERVICES),
    ("nat", "PREROUTING", "", "kubernetes service portals", SERVICES),
    ("nat", "POSTROUTING", "", "kubernetes postrouting rules", POSTROUTING),
)


def jumps(family: int, config: ProxyConfig) -> tuple[Jump, ...]:
    """The jumps; each missing one is inserted first, so the last of them ends up first (IPT-03)."""
    found = [Jump(table, chain, f"{match}{_comment(why)} -j {to}") for table, chain, match, why, to in _JUMPS]
    if localhost_node_ports(family, config):
        found += [Jump("filter", chain, f"-j {LOCALNET_FIREWALL}") for chain in ("INPUT", "OUTPUT")]
    return tuple(found)


def fixed_chains(family: int, config: ProxyConfig) -> dict[str, dict[str, Rules]]:
    """The chains that never change, by table; those that receive rules of Services are empty."""
    mark = f"{1 << config.masquerade_bit:#x}"
    filters: dict[str, Rules] = {
        CANARY: (),
        SERVICES: (),
        EXTERNAL_SERVICES: (),
        FORWARD: _forward(mark, config),
        NODE_PORTS: (),
        PROXY_FIREWALL: (),
    }
    if localhost_node_ports(family, config):
        block = "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
        rule = f"! -s 127.0.0.0/8 -d 127.0.0.0/8 {_comment('block incoming localnet connections')} {block}"
        filters[LOCALNET_FIREWALL] = (rule,)
    nat: dict[str, Rules] = {
        CANARY: (),
        SERVICES: (),
        NODE_PORTS: (),
        POSTROUTING: (
            f"-m mark ! --mark {mark}/{mark} -j RETURN",
            f"-j MARK --set-xmark {mark}/0x0",
            f"{_comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully",
        ),
        MARK_MASQ: (f"-j MARK --set-xmark {mark}/{mark}",),
    }
    return {"mangle": {CANARY: ()}, "filter": filters, "nat": nat}


def _forward(mark: str, config: ProxyConfig) -> Rules:
    """Accepts marked packets and known connections; drops INVALID ones unless conntrack is liberal (MASQ-03)."""
    invalid = () if config.conntrack_tcp_be_liberal else ("-m conntrack --ctstate INVALID -j DROP",)
    return (
        *invalid,
        f"{_comment('kubernetes forwarding rules')} -m mark --mark {mark}/{mark} -j ACCEPT",
        f"{_comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    )


def localhost_node_ports(family: int, config: ProxyConfig) -> bool:
    """Whether node ports are accepted on 127.0.0.1 (NP-05)."""
    if family != 4 or not config.localhost_node_ports:
        return False
    # A node whose address is only known from its Node object counts as having one.
    networks = config.node_port_networks(family, config.node_addresses or (bytes(4),))
    return not networks or any(is_loopback(n.address) or contains(n, LOOPBACK[4]) for n in networks)


def node_port_jumps(family: int, config: ProxyConfig, host: HostAddresses) -> Rules:
    """The last rules of nat KUBE-SERVICES, which jump to the node ports (NP-01 to NP-04)."""
    rest = f"{_comment(_LAST)} -m addrtype --dst-type LOCAL -j {NODE_PORTS}"
    addresses = _node_port_addresses(family, config, host)
    if addresses is not None:
        bits = 8 * ADDRESS_BYTES[family]
        return tuple(f"-d {format_address(a)}/{bits} {_comment(_LAST)} -j {NODE_PORTS}" for a in addresses)
    if localhost_node_ports(family, config):
        return (rest,)
    return (f"! -d {'127.0.0.0/8' if family == 4 else '::1/128'} {rest}",)


def _node_port_addresses(family: int, config: ProxyConfig, host: HostAddresses) -> list[Address] | None:
    """The addresses that accept node ports, sorted; None for all local ones."""
    if not config.node_port_networks(family, host.node):
        return None
    local, loopback = (*host.local, *host.node, LOOPBACK[4]), localhost_node_ports(family, config)
    return sorted(config.taking_node_ports(family, local, host.node, loopback=loopback))
