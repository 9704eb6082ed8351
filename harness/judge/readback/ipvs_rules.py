"""The iptables rules of mode ipvs (IPVS-12 to IPVS-20): few, as they match sets, and compared rule by rule."""

from __future__ import annotations

import ipaddress

from harness.judge.oracle.settings import Settings
from harness.judge.readback.iptables_fixed import Chains
from harness.judge.readback.ipvs import set_name

_JUMPS = (
    ("nat", "PREROUTING", "KUBE-SERVICES"),
    ("nat", "OUTPUT", "KUBE-SERVICES"),
    ("nat", "POSTROUTING", "KUBE-POSTROUTING"),
    ("filter", "FORWARD", "KUBE-PROXY-FIREWALL"),
    ("filter", "FORWARD", "KUBE-FORWARD"),
    ("filter", "INPUT", "KUBE-PROXY-FIREWALL"),
    ("filter", "INPUT", "KUBE-NODE-PORT"),
    ("filter", "INPUT", "KUBE-IPVS-FILTER"),
    ("filter", "OUTPUT", "KUBE-IPVS-OUT-FILTER"),
)
_RANGES = "KUBE-SOURCE-RANGES-FIREWALL"
_REJECT = {4: "icmp-port-unreachable", 6: "icmp6-port-unreachable"}

Server = tuple[bytes, int, int]


def wanted(family: int, filled: frozenset[str], barred: list[Server], settings: Settings) -> Chains:
    """`filled`: sets with entries, without `KUBE-`; `barred`: load balancer IPs that the node may not use (LB-05)."""
    mark = f"{1 << settings.masquerade_bit:#x}"
    found: Chains = {}
    for table, chain, to in _JUMPS:
        found.setdefault((table, chain), []).append(f"-A {chain} -j {to}")
    found["nat", "KUBE-SERVICES"] = _services(family, filled, settings)
    found["nat", "KUBE-LOAD-BALANCER"] = [
        *_on(family, filled, "LOAD-BALANCER-LOCAL dst,dst -j RETURN"),
        "-A X -j KUBE-MARK-MASQ",
    ]
    found["nat", "KUBE-NODE-PORT"] = [
        line for protocol in ("tcp", "udp", "sctp") for line in _node_port(family, filled, protocol)
    ]
    found["nat", "KUBE-MARK-MASQ"] = [f"-A X -j MARK --set-xmark {mark}/{mark}"]
    found["nat", "KUBE-POSTROUTING"] = [
        *_on(family, filled, "LOOP-BACK dst,dst,src -j MASQUERADE"),
        f"-A X ! --mark {mark}/{mark} -j RETURN",
        f"-A X -j MARK --set-xmark {mark}/0x0",
        "-A X -j MASQUERADE --random-fully",
    ]
    return found | _filter(family, filled, barred, mark)


def _on(family: int, filled: frozenset[str], rule: str, match: str = "") -> list[str]:
    """A rule that matches a set, if it has entries."""
    name, _, rest = rule.partition(" ")
    return [f"-A X {match} --match-set {set_name(family, name)} {rest}"] if name in filled else []


def _services(family: int, filled: frozenset[str], settings: Settings) -> list[str]:
    size = 4 if family == 4 else 16
    pods = settings.pod_block(size)
    if settings.masquerade_all:
        others = [""]
    elif pods:
        others = [f"! -s {pods}"]
    elif settings.detects_pods(size):
        suffix = "+" if settings.detect_local_mode == "InterfaceNamePrefix" else ""
        others = [f"! -i {settings.pod_interface}{suffix}"]
    else:
        others = []
    cluster = (
        _on(family, filled, "CLUSTER-IP dst,dst -j KUBE-MARK-MASQ", *others)
        if others
        else _on(family, filled, "CLUSTER-IP src,dst -j KUBE-MARK-MASQ")
    )
    external = [
        line
        for name in ("EXTERNAL-IP", "EXTERNAL-IP-LOCAL")
        for match in ("! --physdev-is-in ! --src-type LOCAL", "--dst-type LOCAL")
        for line in _on(family, filled, f"{name} dst,dst -j ACCEPT", match)
    ]
    return [
        f"-A X -s {'127.0.0.0/8' if family == 4 else '::1/128'} -j RETURN",
        *_on(family, filled, "LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER"),
        *cluster,
        *_on(family, filled, "EXTERNAL-IP dst,dst -j KUBE-MARK-MASQ"),
        *external,
        "-A X --dst-type LOCAL -j KUBE-NODE-PORT",
        *_on(family, filled, "CLUSTER-IP dst,dst -j ACCEPT"),
        *_on(family, filled, "LOAD-BALANCER dst,dst -j ACCEPT"),
    ]


def _node_port(family: int, filled: frozenset[str], protocol: str) -> list[str]:
    name, directions = {"sctp": ("SCTP-HASH", "dst,dst")}.get(protocol, (protocol.upper(), "dst"))
    return [
        *_on(family, filled, f"NODE-PORT-LOCAL-{name} {directions} -j RETURN", f"-p {protocol}"),
        *_on(family, filled, f"NODE-PORT-{name} {directions} -j KUBE-MARK-MASQ", f"-p {protocol}"),
    ]


def _filter(family: int, filled: frozenset[str], barred: list[Server], mark: str) -> Chains:
    known = ("LOAD-BALANCER", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL")
    refusal = f"-j REJECT --reject-with {_REJECT[family]}"
    out = []
    for address, protocol, port in barred:
        text = ipaddress.ip_address(address)
        source = f"{text}/{text.max_prefixlen}"
        out.append(f"-A X -s {source} --vproto {protocol} --vaddr {text} --vport {port} -j DROP")
    return {
        ("filter", "KUBE-FORWARD"): [
            f"-A X --mark {mark}/{mark} -j ACCEPT",
            "-A X --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ],
        ("filter", "KUBE-NODE-PORT"): _on(family, filled, "HEALTH-CHECK-NODE-PORT dst -j ACCEPT", "-p tcp"),
        ("filter", "KUBE-PROXY-FIREWALL"): _on(
            family, filled, "LOAD-BALANCER-FW dst,dst -j KUBE-SOURCE-RANGES-FIREWALL"
        ),
        ("filter", _RANGES): [
            *_on(family, filled, "LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN"),
            *_on(family, filled, "LOAD-BALANCER-SOURCE-IP dst,dst,src -j RETURN"),
            "-A X -j DROP",
        ],
        ("filter", "KUBE-IPVS-FILTER"): [
            *(line for name in known for line in _on(family, filled, f"{name} dst,dst -j RETURN")),
            *_on(family, filled, "HEALTH-CHECK-NODE-PORT dst -j RETURN", "-p tcp"),
            *_on(family, filled, f"IPVS-IPS dst {refusal}", "--ctstate NEW"),
        ],
        ("filter", "KUBE-IPVS-OUT-FILTER"): out,
    }
