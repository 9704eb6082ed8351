"""The iptables rules of ipvs mode, as text for `iptables-restore --noflush` (IPVS-12 to IPVS-20).

They match sets, so their number does not grow with the cluster: they change only when a set gets its first
entry or loses its last one, or with load balancer addresses that the node itself may not use.
Lines have the format of `iptables-save`.
"""

from __future__ import annotations

from engine.addresses import format_address, format_network
from engine.backends.ipvs import sets
from engine.backends.ipvs.sets import full_name
from engine.config import ProxyConfig
from engine.model import PROTOCOL_NAMES, SCTP, TCP, UDP

NAT_CHAINS = (
    "KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-MARK-MASQ",
)  # fmt: skip
FILTER_CHAINS = (
    "KUBE-FORWARD", "KUBE-NODE-PORT", "KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
)  # fmt: skip
_PORTALS = "kubernetes service portals"
JUMPS = (
    ("nat", f'-A OUTPUT -m comment --comment "{_PORTALS}" -j KUBE-SERVICES'),
    ("nat", f'-A PREROUTING -m comment --comment "{_PORTALS}" -j KUBE-SERVICES'),
    ("nat", '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'),
    ("filter", '-A FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL'),
    ("filter", '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD'),
    ("filter", '-A INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL'),
    ("filter", '-A INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT'),
    ("filter", '-A INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER'),
    ("filter", '-A OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER'),
)


def rules(family: int, config: ProxyConfig, filled: frozenset[str], refused: tuple[bytes, ...]) -> str:
    """`filled`: sets with entries. `refused`: keys of servers whose address is not an allowed source (LB-05)."""
    nat = _Chains(family, filled)
    _services(nat, config)
    _node_ports(nat)
    mark = f"{1 << config.masquerade_bit:#x}"
    nat.set("KUBE-POSTROUTING", sets.LOOP_BACK, "dst,dst,src", "MASQUERADE")
    nat.add("KUBE-POSTROUTING", f"-m mark ! --mark {mark}/{mark} -j RETURN")
    nat.add("KUBE-POSTROUTING", f"-j MARK --set-xmark {mark}/0x0")
    nat.add("KUBE-POSTROUTING", "-j MASQUERADE --random-fully")
    nat.add("KUBE-MARK-MASQ", f"-j MARK --set-xmark {mark}/{mark}")
    return _table("nat", NAT_CHAINS, nat.lines) + _table(
        "filter", FILTER_CHAINS, _filter(family, mark, filled, refused)
    )


class _Chains:
    """Rules in order, without those that match empty sets."""

    def __init__(self, family: int, filled: frozenset[str]) -> None:
        self._family = family
        self._filled = filled
        self.lines: list[str] = []

    def add(self, chain: str, rest: str) -> None:
        self.lines.append(f"-A {chain} {rest}")

    def set(self, chain: str, name: str, directions: str, target: str, match: str = "") -> None:
        if name in self._filled:
            self.add(chain, f"{match}-m set --match-set {full_name(self._family, name)} {directions} -j {target}")


def _table(name: str, chains: tuple[str, ...], lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in (f"*{name}", *(f":{chain} - [0:0]" for chain in chains), *lines, "COMMIT"))


def _services(nat: _Chains, config: ProxyConfig) -> None:
    family = nat._family
    chain = "KUBE-SERVICES"
    nat.add(chain, f"-s {'127.0.0.0/8' if family == 4 else '::1/128'} -j RETURN")
    nat.set(chain, sets.LOAD_BALANCER, "dst,dst", "KUBE-LOAD-BALANCER")
    outside = _not_from_pods(family, config)
    if config.masquerade_all or outside:
        match = "" if config.masquerade_all else outside
        nat.set(chain, sets.CLUSTER_IP, "dst,dst", "KUBE-MARK-MASQ", match)
    else:  # pods cannot be detected; the node is detected by the Service's own address as source
        nat.set(chain, sets.CLUSTER_IP, "src,dst", "KUBE-MARK-MASQ")
    nat.set(chain, sets.EXTERNAL_IP, "dst,dst", "KUBE-MARK-MASQ")
    for name in (sets.EXTERNAL_IP, sets.EXTERNAL_IP_LOCAL):
        nat.set(chain, name, "dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL", "ACCEPT")
        nat.set(chain, name, "dst,dst -m addrtype --dst-type LOCAL", "ACCEPT")
    nat.add(chain, "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT")
    nat.set(chain, sets.CLUSTER_IP, "dst,dst", "ACCEPT")
    nat.set(chain, sets.LOAD_BALANCER, "dst,dst", "ACCEPT")
    nat.set("KUBE-LOAD-BALANCER", sets.LOAD_BALANCER_LOCAL, "dst,dst", "RETURN")
    nat.add("KUBE-LOAD-BALANCER", "-j KUBE-MARK-MASQ")


def _not_from_pods(family: int, config: ProxyConfig) -> str:
    """The match of packets that are not from a pod; empty if pods cannot be detected (DET-01, DET-03)."""
    pods, interface = config.pods(family), config.pod_interfaces()
    if pods:
        return f"! -s {format_network(pods)} "
    return f"! -i {interface.replace('*', '+')} " if interface else ""


def _node_ports(nat: _Chains) -> None:
    for protocol in (TCP, UDP, SCTP):
        directions = "dst,dst" if protocol == SCTP else "dst"
        match = f"-p {PROTOCOL_NAMES[protocol]} "
        nat.set("KUBE-NODE-PORT", sets.NODE_PORT_LOCAL[protocol], directions, "RETURN", match)
        nat.set("KUBE-NODE-PORT", sets.NODE_PORT[protocol], directions, "KUBE-MARK-MASQ", match)


def _filter(family: int, mark: str, filled: frozenset[str], refused: tuple[bytes, ...]) -> list[str]:
    chains = _Chains(family, filled)
    chains.add("KUBE-FORWARD", f"-m mark --mark {mark}/{mark} -j ACCEPT")
    chains.add("KUBE-FORWARD", "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    chains.set("KUBE-NODE-PORT", sets.HEALTH_CHECK, "dst", "ACCEPT", "-p tcp ")
    chains.set("KUBE-PROXY-FIREWALL", sets.LOAD_BALANCER_FW, "dst,dst", "KUBE-SOURCE-RANGES-FIREWALL")
    chains.set("KUBE-SOURCE-RANGES-FIREWALL", sets.SOURCE_CIDR, "dst,dst,src", "RETURN")
    chains.set("KUBE-SOURCE-RANGES-FIREWALL", sets.SOURCE_IP, "dst,dst,src", "RETURN")
    chains.add("KUBE-SOURCE-RANGES-FIREWALL", "-j DROP")
    for name in (sets.LOAD_BALANCER, sets.CLUSTER_IP, sets.EXTERNAL_IP, sets.EXTERNAL_IP_LOCAL):
        chains.set("KUBE-IPVS-FILTER", name, "dst,dst", "RETURN")
    chains.set("KUBE-IPVS-FILTER", sets.HEALTH_CHECK, "dst", "RETURN", "-p tcp ")
    reject = "REJECT --reject-with " + ("icmp-port-unreachable" if family == 4 else "icmp6-port-unreachable")
    chains.set("KUBE-IPVS-FILTER", sets.IPVS_IPS, "dst", reject, "-m conntrack --ctstate NEW ")
    for key in refused:
        address = format_address(key[:-3])
        source = f"-s {address}/{8 * (len(key) - 3)}"
        server = f"--vproto {key[-3]} --vaddr {address} --vport {key[-2] << 8 | key[-1]}"
        chains.add("KUBE-IPVS-OUT-FILTER", f"{source} -m ipvs {server} -j DROP")
    return chains.lines
