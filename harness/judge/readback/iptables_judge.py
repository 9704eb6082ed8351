"""Mode iptables: compares the complete saved rules with the expected state."""

from __future__ import annotations

from typing import NamedTuple

from harness.judge.behaviour import Behaviour
from harness.judge.oracle.settings import Settings
from harness.judge.readback import iptables_fixed
from harness.judge.readback.check_result import CheckResult, attempted, nothing, settings_differ
from harness.judge.readback.compare import compare
from harness.judge.readback.iptables import Context, behaviour_of
from harness.judge.readback.iptables_text import ParsedTables

ROUTE_LOCALNET = "net.ipv4.conf.all.route_localnet"


class IptablesState(NamedTuple):
    """One family's tables; `sysctls` is None if there are none; `alone`: no other program has rules there."""

    tables: ParsedTables
    sysctls: dict[str, str] | None
    alone: bool


def judge(family: int, state: IptablesState | None, expected: Behaviour, settings: Settings) -> CheckResult:
    """Every rule and chain, the policies, and the sysctl for node ports on loopback (NP-05)."""
    if state is None:
        return nothing(expected)
    tables = state.tables
    found = iptables_fixed.differences(family, tables, expected, settings, state.alone)
    context = Context(family, settings, expected.chains, expected.node_addresses is None)
    actual = attempted(lambda: behaviour_of(tables, context))
    found += [actual] if isinstance(actual, str) else compare(expected, actual)
    checked = {"chains": len(tables.chains), "rules": sum(map(len, tables.chains.values()))}
    if state.sysctls is None:
        return CheckResult(found, checked, ["sysctls: the kernel is in memory"])
    if family == 4 and settings.localhost:
        found += settings_differ({ROUTE_LOCALNET: "1"}, state.sysctls)
        checked["sysctls"] = 1
    return CheckResult(found, checked, [])
