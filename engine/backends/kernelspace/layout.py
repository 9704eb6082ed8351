"""PortPlan -> load balancer policies and the remote endpoints they need -> what differs -> program."""

from __future__ import annotations

from engine.addresses import format_address
from engine.backends.claims import Claims, Owner, Wanted
from engine.backends.kernelspace.program import (
    DSR,
    IPV6,
    LOCAL_ROUTED_VIP,
    SOURCE_IP,
    VIP_EXTERNAL_IP,
    KernelspaceProgram,
    LoadBalancer,
)
from engine.config import ProxyConfig
from engine.dataplane import Change, PortPlan
from engine.model import HostAddresses, Target

_ENDPOINT, _POLICY = "endpoint", "policy"


class KernelspaceBackend:
    """Keeps what one family of HNS would hold and turns dataplane changes into programs."""

    mode = "kernelspace"

    def __init__(self, family: int, config: ProxyConfig) -> None:
        self.family = family
        self._config = config
        self._claims = Claims()

    def plan(self, changes: list[Change], host: HostAddresses) -> KernelspaceProgram:
        """The program from the last plan to this one; falsy when nothing differs."""
        for change in changes:
            wanted: Wanted = {}
            for plan in change.new:
                self._port(plan, (change.service, plan.name, plan.protocol), wanted)
            self._claims.replace(change.service, wanted)
        return self._program()

    def _program(self) -> KernelspaceProgram:
        parts: dict[str, list] = {f"{kind}_{verb}": [] for kind in ("endpoints", "policies") for verb in _VERBS}
        for (kind, *key), before, now in self._claims.settle():
            if kind == _ENDPOINT:
                parts["endpoints_added" if now else "endpoints_deleted"].append(key[0])
            else:
                # HNS has no way to change a policy: it goes and another one comes.
                parts["policies_deleted"] += [before] if before else []
                parts["policies_added"] += [now] if now else []
        return KernelspaceProgram(family=self.family, **{name: tuple(found) for name, found in parts.items()})

    def _port(self, plan: PortPlan, owner: Owner, wanted: Wanted) -> None:
        """A policy for each way to reach the port that has endpoints; without any there is none at all."""
        inner = plan.local if plan.internal_local else plan.cluster
        outer = plan.local if plan.external_local else plan.cluster
        dsr = DSR if self._config.winkernel_enable_dsr else 0
        self._policy(plan.cluster_ip, plan.port, inner, dsr, 0, plan, owner, wanted)
        # Traffic that must stay on its node goes back to the client directly.
        dsr = DSR if plan.external_local else 0
        if plan.node_port:
            flags = LOCAL_ROUTED_VIP | VIP_EXTERNAL_IP
            self._policy(b"", plan.node_port, outer, dsr, flags, plan, owner, wanted)
        for ip in plan.external_ips + plan.load_balancer_ips:
            self._policy(ip, plan.port, outer, dsr, VIP_EXTERNAL_IP, plan, owner, wanted)

    def _policy(
        self,
        vip: bytes,
        port: int,
        targets: tuple[Target, ...],
        flags: int,
        port_flags: int,
        plan: PortPlan,
        owner: Owner,
        wanted: Wanted,
    ) -> None:
        if not targets:
            return
        policy = LoadBalancer(
            vip=format_address(vip) if vip else "",
            protocol=plan.protocol,
            # One port for all endpoints is all that a policy can say.
            internal_port=targets[0][-2] << 8 | targets[0][-1],
            external_port=port,
            endpoints=tuple(dict.fromkeys(format_address(target[:-2]) for target in targets)),
            flags=flags | (IPV6 if self.family == 6 else 0),
            port_flags=port_flags,
            distribution=SOURCE_IP if plan.affinity_seconds else 0,
            source_vip=self._config.winkernel_source_vip,
        )
        wanted.setdefault(((_POLICY, vip, plan.protocol, port), owner), policy)
        for target in set(targets).difference(plan.on_node):
            wanted[(_ENDPOINT, format_address(target[:-2])), owner] = True


_VERBS = ("added", "deleted")
