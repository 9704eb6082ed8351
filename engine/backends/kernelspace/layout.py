"""PortPlan -> load balancer policies and the remote endpoints they need -> differences -> program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.addresses import format_address, split_target
from engine.backends.claims import Claims, Owner, Wanted
from engine.backends.interface import NOTHING_DEGRADED
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
from engine.dataplane import PlanChange, PortPlan
from engine.model import HostAddresses, Target

_ENDPOINT, _POLICY = "endpoint", "policy"
_Wanted = Wanted[tuple[Any, ...], Any]


class _Frontend(NamedTuple):
    """A destination, `vip` b"" for every address of the node, with the flags of its policy and of the policy's port."""

    vip: bytes
    port: int
    targets: tuple[Target, ...]
    flags: int
    port_flags: int


class KernelspaceBackend:
    """The HNS state of one family; turns dataplane changes into programs."""

    mode = "kernelspace"
    degraded = NOTHING_DEGRADED

    def __init__(self, family: int, config: ProxyConfig) -> None:
        self.family = family
        self._config = config
        self._claims: Claims[tuple[Any, ...], Any] = Claims()

    def plan(self, changes: list[PlanChange], host: HostAddresses) -> KernelspaceProgram:
        """The program from the state of the last call to this one; falsy if nothing differs."""
        for change in changes:
            wanted: _Wanted = {}
            for plan in change.new:
                self._port(plan, (change.service, plan.name, plan.protocol), wanted)
            self._claims.replace(change.service, wanted)
        return self._program()

    def _program(self) -> KernelspaceProgram:
        endpoints: dict[bool, list[str]] = {True: [], False: []}
        added: list[LoadBalancer] = []
        deleted: list[LoadBalancer] = []
        for (kind, *key), before, now in self._claims.settle():
            if kind == _ENDPOINT:
                endpoints[bool(now)].append(key[0])
            else:
                # HNS cannot change a policy: it is deleted and another one created.
                deleted += [before] if before else []
                added += [now] if now else []
        return KernelspaceProgram(
            family=self.family,
            endpoints_added=tuple(endpoints[True]),
            policies_added=tuple(added),
            policies_deleted=tuple(deleted),
            endpoints_deleted=tuple(endpoints[False]),
        )

    def _port(self, plan: PortPlan, owner: Owner, wanted: _Wanted) -> None:
        """A policy for each destination of the port that has endpoints, and the remote endpoints that it needs."""
        for frontend in self._frontends(plan):
            if frontend.targets:
                key = (_POLICY, frontend.vip, plan.protocol, frontend.port)
                wanted.setdefault((key, owner), self._policy(plan, frontend))
            for target in set(frontend.targets).difference(plan.on_node):
                wanted[(_ENDPOINT, format_address(target[:-2])), owner] = True

    def _frontends(self, plan: PortPlan) -> Iterator[_Frontend]:
        inner = plan.local if plan.internal_local else plan.cluster
        outer = plan.local if plan.external_local else plan.cluster
        dsr = DSR if self._config.winkernel_enable_dsr else 0
        yield _Frontend(plan.cluster_ip, plan.port, inner, dsr, 0)
        # Traffic that must stay on its node returns to the client directly.
        dsr = DSR if plan.external_local else 0
        if plan.node_port:
            flags = LOCAL_ROUTED_VIP | VIP_EXTERNAL_IP
            yield _Frontend(b"", plan.node_port, outer, dsr, flags)
        for ip in plan.external_ips + plan.load_balancer_ips:
            yield _Frontend(ip, plan.port, outer, dsr, VIP_EXTERNAL_IP)

    def _policy(self, plan: PortPlan, frontend: _Frontend) -> LoadBalancer:
        return LoadBalancer(
            vip=format_address(frontend.vip) if frontend.vip else "",
            protocol=plan.protocol,
            # A policy has one internal port for all endpoints.
            internal_port=split_target(frontend.targets[0])[1],
            external_port=frontend.port,
            endpoints=tuple(dict.fromkeys(format_address(target[:-2]) for target in frontend.targets)),
            flags=frontend.flags | (IPV6 if self.family == 6 else 0),
            port_flags=frontend.port_flags,
            distribution=SOURCE_IP if plan.affinity_seconds else 0,
            source_vip=self._config.winkernel_source_vip,
        )
