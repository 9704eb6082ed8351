"""One service port's chains and the rules that jump to them (IPT-04), in the syntax of `iptables-save`.

KUBE-SERVICES --ClusterIP------------------------------> KUBE-SVC-x (or KUBE-SVL-x) --> KUBE-SEP-y
KUBE-SERVICES --external IP, load balancer IP--> KUBE-EXT-x --> KUBE-SVC-x, KUBE-SVL-x
KUBE-SERVICES --load balancer IP--> KUBE-FW-x --> KUBE-EXT-x    where source ranges are given
KUBE-SERVICES --> KUBE-NODEPORTS --node port--> KUBE-EXT-x
"""

from __future__ import annotations

from functools import lru_cache

from engine.addresses import collapse, format_address, format_network, socket_text
from engine.backends.claims import Wanted
from engine.backends.iptables.names import (
    EXTERNAL_SERVICES,
    MARK_MASQ,
    NODE_PORTS,
    PROXY_FIREWALL,
    SERVICES,
    chain_hash,
    port_name,
)
from engine.backends.iptables.program import Rules
from engine.config import ProxyConfig
from engine.dataplane import PortPlan
from engine.model import PROTOCOL_NAMES, TCP, Address, Name, Target

SharedKey = tuple[str, str, bytes, int, int]
"""Table, chain, address (b"" for a node port), protocol and port."""
SharedRules = Wanted[SharedKey, str]

_ALL_BITS = {4: "255.255.255.255", 6: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}
_REJECT = {4: "REJECT --reject-with icmp-port-unreachable", 6: "REJECT --reject-with icmp6-port-unreachable"}


class PortRules:
    """The names and rules of one service port; without `comments` the rules of endpoints have none (IPT-07)."""

    def __init__(self, service: Name, plan: PortPlan, config: ProxyConfig, comments: bool = True) -> None:
        self._plan = plan
        self._config = config
        self._comments = comments
        # Of Services that want the same address, those with usable endpoints take precedence.
        self._owner = (not plan.any_usable, service, plan.name, plan.protocol)
        self._family = 4 if len(plan.cluster_ip) == 4 else 6
        self.name = port_name(service, plan.name)
        self._protocol = PROTOCOL_NAMES[plan.protocol]
        self._key = self.name + self._protocol
        suffix = chain_hash(self._key)
        self.cluster, self.local = f"KUBE-SVC-{suffix}", f"KUBE-SVL-{suffix}"
        self.external, self.firewall = f"KUBE-EXT-{suffix}", f"KUBE-FW-{suffix}"

    @property
    def _internal(self) -> tuple[str, tuple[Target, ...]]:
        plan = self._plan
        return (self.local, plan.local) if plan.internal_local else (self.cluster, plan.cluster)

    @property
    def _accessible(self) -> bool:
        """Whether the port has external destinations and a usable endpoint on any node."""
        plan = self._plan
        return plan.any_usable and bool(plan.node_port or plan.external_ips or plan.load_balancer_ips)

    @property
    def _firewalled(self) -> bool:
        """Source ranges are checked only if the destination has endpoints (LB-04)."""
        plan = self._plan
        return plan.any_usable and plan.allowed is not None and bool(plan.load_balancer_ips)

    def chains(self) -> dict[str, Rules]:
        """The chains of this port, each before those that jump to it."""
        plan = self._plan
        found: dict[str, Rules] = {}
        ends = {target: socket_text(target) for target in {*plan.cluster, *plan.local}}
        names = {target: f"KUBE-SEP-{chain_hash(self._key + text)}" for target, text in ends.items()}
        order = sorted(ends, key=ends.__getitem__)  # as plain text (EPS-07)
        for target in order:
            found[names[target]] = self._endpoint(names[target], target, ends[target])
        for chain, targets in ((self.cluster, plan.cluster), (self.local, plan.local)):
            if targets:
                chosen = set(targets)
                found[chain] = self._masquerade(chain) + self._pick(
                    [(names[target], ends[target]) for target in order if target in chosen]
                )
        if self._accessible:
            found[self.external] = self._external_rules()
        if self._firewalled:
            found[self.firewall] = self._firewall_rules()
        return found

    def _endpoint(self, chain: str, target: Target, text: str) -> Rules:
        """Masquerades a client that is the endpoint itself, which would not see the reply otherwise (HAIR-01)."""
        comment = f'-m comment --comment "{self.name}" ' if self._comments else ""
        address, protocol = target[:-2], self._protocol
        seen = f"-m recent --set --name {chain} --mask {_ALL_BITS[self._family]} --rsource "
        return (
            f"-s {format_address(address)}/{8 * len(address)} {comment}-j {MARK_MASQ}",
            f"-p {protocol} {comment}{seen if self._plan.affinity_seconds else ''}-m {protocol} "
            f"-j DNAT --to-destination {text}",
        )

    def _pick(self, ends: list[tuple[str, str]]) -> Rules:
        """Known clients first (AFF-02), then each endpoint with probability 1/(n-i), the last always (CIP-01)."""
        rules: list[str] = []
        seconds, mask = self._plan.affinity_seconds, _ALL_BITS[self._family]
        comments = [f'-m comment --comment "{self.name} -> {text}" ' if self._comments else "" for _, text in ends]
        if seconds:
            seen = f"-m recent --rcheck --seconds {seconds} --reap"
            for (chain, _), comment in zip(ends, comments, strict=True):
                rules.append(f"{comment}{seen} --name {chain} --mask {mask} --rsource -j {chain}")
        for (chain, _), comment, chance in zip(ends, comments, _chances(len(ends)), strict=True):
            rules.append(f"{comment}{chance}-j {chain}")
        return tuple(rules)

    def _masquerade(self, chain: str) -> Rules:
        """Marks clients of the cluster IP to whose address replies would not return (CIP-04)."""
        if chain != self._internal[0]:
            return ()
        if self._config.masquerade_all:
            source = interface = ""
        else:
            source, interface = self._pods("! ")
            if not source and not interface:
                return ()
        return (self._to(self._plan.cluster_ip, "cluster IP", MARK_MASQ, source, interface),)

    def _pods(self, negation: str = "") -> tuple[str, str]:
        """The matches for pods, by source or interface; empty texts if pods cannot be detected (DET)."""
        pods, interface = self._config.pods(self._family), self._config.pod_interfaces()
        if pods:
            return f"{negation}-s {format_network(pods)} ", ""
        return "", f"{negation}-i {interface.replace('*', '+')} " if interface else ""

    def _to(self, address: Address, what: str, target: str, source: str = "", interface: str = "") -> str:
        protocol = self._protocol
        return (
            f"{source}-d {format_address(address)}/{8 * len(address)} {interface}-p {protocol} "
            f'-m comment --comment "{self.name} {what}" -m {protocol} --dport {self._plan.port} -j {target}'
        )

    def _external_rules(self) -> Rules:
        """Policy Local keeps the client's address, but pods and the node may use all endpoints (ETP-01 to ETP-05)."""
        plan, name = self._plan, self.name

        def comment(text: str) -> str:
            return f'-m comment --comment "{text} for {name} external destinations" '

        if not plan.external_local:
            return (f"{comment('masquerade traffic')}-j {MARK_MASQ}", f"-j {self.cluster}")
        rules = []
        pods = "".join(self._pods())
        if pods:
            rules.append(f"{pods}{comment('pod traffic')}-j {self.cluster}")
        here = "-m addrtype --src-type LOCAL -j"
        rules.append(f"{comment('masquerade LOCAL traffic')}{here} {MARK_MASQ}")
        rules.append(f"{comment('route LOCAL traffic')}{here} {self.cluster}")
        if plan.local:
            rules.append(f"-j {self.local}")
        return tuple(rules)

    def _firewall_rules(self) -> Rules:
        """The sources allowed at load balancer addresses; others are dropped in the filter table (LB-03, LB-04)."""
        comment = f'-m comment --comment "{self.name} loadbalancer IP" '
        networks = collapse(self._plan.allowed or ())
        rules = [f"{f'-s {format_network(n)} ' if n.prefix else ''}{comment}-j {self.external}" for n in networks]
        rules.append(f'-m comment --comment "other traffic to {self.name} will be dropped by {PROXY_FIREWALL}"')
        return tuple(rules)

    def frontends(self, wanted: SharedRules) -> None:
        """Add the rules in shared chains to `wanted`, by (table, chain, ...); the first rule of a key is used."""
        plan, owner = self._plan, self._owner
        chain, targets = self._internal
        self._frontend(wanted, plan.cluster_ip, "cluster IP", SERVICES, chain if targets else "", plan.internal_local)
        external = self.external if self._accessible else ""
        balancers = self.firewall if self._firewalled else external
        for ips, what, through in (
            (plan.external_ips, "external IP", external),
            (plan.load_balancer_ips, "loadbalancer IP", balancers),
        ):
            for ip in ips:
                self._frontend(wanted, ip, what, EXTERNAL_SERVICES, through, plan.external_local)
                if through == self.firewall:
                    refused = self._to(ip, f"traffic not accepted by {self.firewall}", "DROP")
                    wanted.setdefault((("filter", PROXY_FIREWALL, ip, plan.protocol, plan.port), owner), refused)
        if plan.node_port:
            self._node_port(wanted, external)
        if plan.health_check_node_port:
            comment = f'-p tcp -m comment --comment "{self.name} health check node port" -m tcp'
            key = ("filter", NODE_PORTS, b"", TCP, plan.health_check_node_port)
            wanted[key, owner] = f"{comment} --dport {plan.health_check_node_port} -j ACCEPT"

    def _frontend(self, wanted: SharedRules, ip: Address, what: str, refusing: str, through: str, local: bool) -> None:
        """One address: a jump if there are endpoints, otherwise the rejecting rule in `refusing`."""
        plan, owner = self._plan, self._owner
        if through:
            wanted.setdefault((("nat", SERVICES, ip, plan.protocol, plan.port), owner), self._to(ip, what, through))
        refused = self._refusal(local)
        if refused:
            key = ("filter", refusing, ip, plan.protocol, plan.port)
            wanted.setdefault((key, owner), self._to(ip, *refused))

    def _refusal(self, local: bool) -> tuple[str, str] | None:
        """Reason and target for traffic without endpoints; None if there are any (NOEP-01, NOEP-02)."""
        plan = self._plan
        if not plan.any_usable:
            return "has no endpoints", _REJECT[self._family]
        if local and not plan.local:
            return "has no local endpoints", "DROP"
        return None

    def _node_port(self, wanted: SharedRules, through: str) -> None:
        plan, protocol = self._plan, self._protocol
        number = plan.node_port
        if through:
            rule = f'-p {protocol} -m comment --comment "{self.name}" -m {protocol} --dport {number} -j {through}'
            wanted[("nat", NODE_PORTS, b"", plan.protocol, number), self._owner] = rule
        refused = self._refusal(plan.external_local)
        if refused:
            why, target = refused
            match = f'-p {protocol} -m comment --comment "{self.name} {why}" -m addrtype --dst-type LOCAL'
            rule = f"{match} -m {protocol} --dport {number} -j {target}"
            wanted[("filter", EXTERNAL_SERVICES, b"", plan.protocol, number), self._owner] = rule


@lru_cache(maxsize=4096)
def _chances(count: int) -> tuple[str, ...]:
    """The match for each of `count` endpoints that selects its share of the traffic left by the previous ones."""
    return (*(f"-m statistic --mode random --probability {1 / left:.10f} " for left in range(count, 1, -1)), "")
