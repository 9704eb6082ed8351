"""Computes the writes of a sync: only chains that differ, and single rules in shared chains.

    PortPlan old, new --> chains before, after --------> chains that differ, removed chains
                    \\--> Claims on shared chains -----> rules to insert, rules to delete

Two Services never share a chain of their own, and no two rules that Services put into a shared chain
match one packet, so their order means nothing; the jump to the node ports alone must stay last.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.backends.claims import Claims
from engine.backends.interface import NOTHING_DEGRADED, Hand
from engine.backends.iptables.names import MARK_MASQ, SERVICES
from engine.backends.iptables.program import Edit, IptablesProgram, Jump, Rules, Table
from engine.backends.iptables.rules import PortRules, SharedKey, SharedRules
from engine.backends.iptables.skeleton import TABLES, fixed_chains, jumps, localhost_node_ports, node_port_jumps
from engine.config import ProxyConfig
from engine.dataplane import PlanChange, PortPlan
from engine.model import HostAddresses, Name

LARGE_CLUSTER_ENDPOINTS = 1000
"""With more, the rules of endpoints get no comments (IPT-07)."""

Chains = dict[str, Rules]


class IptablesBackend:
    """The programmed state of one family; turns dataplane changes into programs, of which the first is a full one."""

    mode = "iptables"
    degraded = NOTHING_DEGRADED

    def __init__(self, family: int, config: ProxyConfig) -> None:
        self.family = family
        self._config = config
        self._claims: Claims[SharedKey, str] = Claims()
        self._node_port_jumps: Rules = ()
        self._endpoints = 0
        self._rules = dict.fromkeys(TABLES, 0)
        self._started = False
        self._hand: Hand | None = None

    def prepare(self, hand: Hand) -> None:
        """No part is known before the Services are."""

    def plan_ahead(self, changes: Iterable[PlanChange], host: HostAddresses, hand: Hand) -> IptablesProgram:
        """The first program, whose chains of Services are handed over one Service after the other."""
        self._hand = hand
        hand({MARK_MASQ: fixed_chains(self.family, self._config)["nat"][MARK_MASQ]})
        program = self.plan(changes, host)
        self._hand = None
        return program

    def plan(self, changes: Iterable[PlanChange], host: HostAddresses) -> IptablesProgram:
        """The program from the state of the last call to this one, at first a full one; falsy if nothing differs."""
        written: Chains = {}
        deleted: list[str] = []
        waiting: list[PlanChange] = []
        for change in changes:
            self._endpoints += _endpoints(change.new) - _endpoints(change.old)
            waiting.append(change)
            if self._hand and self._endpoints > LARGE_CLUSTER_ENDPOINTS:  # certain, as a first program only adds
                self._replan(waiting, written, deleted)
                waiting.clear()
        self._replan(waiting, written, deleted)
        edits = self._edits(host)
        if self._started:
            tables = (
                Table("filter", {}, tuple(edits["filter"])),
                Table("nat", written, tuple(edits["nat"]), tuple(deleted)),
            )
            return self._program(tables)
        self._started = True
        return self._full(written, edits)

    def _replan(self, changes: list[PlanChange], written: Chains, deleted: list[str]) -> None:
        comments = self._endpoints <= LARGE_CLUSTER_ENDPOINTS
        for change in changes:
            wanted: SharedRules = {}
            before = self._chains(change.service, change.old, comments)
            after = self._chains(change.service, change.new, comments, wanted)
            changed = {chain: rules for chain, rules in after.items() if before.get(chain) != rules}
            written |= changed
            if self._hand:
                self._hand(changed)
            deleted += reversed([chain for chain in before if chain not in after])
            self._rules["nat"] += _rules(after) - _rules(before)
            self._claims.replace(change.service, wanted)

    def _chains(
        self, service: Name, plans: tuple[PortPlan, ...], comments: bool, wanted: SharedRules | None = None
    ) -> Chains:
        """All chains of a Service; adds its rules in shared chains to `wanted`."""
        chains: Chains = {}
        for plan in {(plan.name, plan.protocol): plan for plan in plans}.values():
            rules = PortRules(service, plan, self._config, comments)
            chains |= rules.chains()
            if wanted is not None:
                rules.frontends(wanted)
        return chains

    def _edits(self, host: HostAddresses) -> dict[str, list[Edit]]:
        """Changes in shared chains by table; new rules are put first, so that the jump for node ports stays last."""
        edits: dict[str, list[Edit]] = {table: [] for table in TABLES}
        for (table, chain, *_), before, now in self._claims.settle():
            if before is not None:
                edits[table].append(Edit("-D", chain, before))
            if now is not None:
                edits[table].append(Edit("-I", chain, now))
        jumps = node_port_jumps(self.family, self._config, host)
        if jumps != self._node_port_jumps:
            edits["nat"] += [Edit("-D", SERVICES, rule) for rule in self._node_port_jumps]
            edits["nat"] += [Edit("-A", SERVICES, rule) for rule in jumps]
            self._node_port_jumps = jumps
        for table, found in edits.items():
            self._rules[table] += sum(-1 if edit.verb == "-D" else 1 for edit in found)
        return edits

    def _full(self, written: Chains, edits: dict[str, list[Edit]]) -> IptablesProgram:
        """A full program, in which shared chains contain all their rules."""
        fixed = fixed_chains(self.family, self._config)
        tables = []
        for table in TABLES:
            shared: dict[str, list[str]] = {}
            for _, chain, rule in edits[table]:
                shared.setdefault(chain, []).append(rule)
            chains = fixed[table] | (written if table == "nat" else {})
            self._rules[table] += _rules(fixed[table])
            tables.append(Table(table, chains | {chain: tuple(rules) for chain, rules in shared.items()}))
        sysctls = (("net.ipv4.conf.all.route_localnet", "1"),)
        return self._program(
            tuple(tables),
            full=True,
            jumps=jumps(self.family, self._config),
            sysctls=sysctls if localhost_node_ports(self.family, self._config) else (),
        )

    def _program(
        self,
        tables: tuple[Table, ...],
        full: bool = False,
        jumps: tuple[Jump, ...] = (),
        sysctls: tuple[tuple[str, str], ...] = (),
    ) -> IptablesProgram:
        total = {table: self._rules[table] for table in ("filter", "nat")}
        return IptablesProgram(self.family, tables, total, full, jumps, sysctls)


def _endpoints(plans: tuple[PortPlan, ...]) -> int:
    return sum(len(plan.cluster) if not plan.local else len({*plan.cluster, *plan.local}) for plan in plans)


def _rules(chains: Chains) -> int:
    return sum(map(len, chains.values()))
