"""The rules of iptables mode that are independent of Services (IPT-01, IPT-03, MASQ-01 to MASQ-03, NP-04, NP-05).

They are few and apply to every packet, so they are compared rule by rule: missing rules, unexpected rules and, in the
proxy's own chains, a different order.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.judge.behaviour import Behaviour
from harness.judge.oracle.settings import Settings
from harness.judge.readback.iptables_options import normal
from harness.judge.readback.iptables_text import BUILT_IN, ParsedTables

TABLES = ("filter", "mangle", "nat")
_OF_SERVICES = {("nat", "KUBE-SERVICES"), ("nat", "KUBE-NODEPORTS"), ("filter", "KUBE-SERVICES"),
                ("filter", "KUBE-EXTERNAL-SERVICES"), ("filter", "KUBE-PROXY-FIREWALL")}  # fmt: skip
"""Shared chains whose rules are destinations: they are parsed, not compared."""
_GUARD = ("filter", "KUBE-FIREWALL")
_NEW = "--ctstate NEW"
_JUMPS = (
    ("filter", "INPUT", f"-A INPUT {_NEW} -j KUBE-EXTERNAL-SERVICES"),
    ("filter", "INPUT", "-A INPUT -j KUBE-NODEPORTS"),
    ("filter", "INPUT", f"-A INPUT {_NEW} -j KUBE-PROXY-FIREWALL"),
    ("filter", "FORWARD", f"-A FORWARD {_NEW} -j KUBE-EXTERNAL-SERVICES"),
    ("filter", "FORWARD", f"-A FORWARD {_NEW} -j KUBE-SERVICES"),
    ("filter", "FORWARD", "-A FORWARD -j KUBE-FORWARD"),
    ("filter", "FORWARD", f"-A FORWARD {_NEW} -j KUBE-PROXY-FIREWALL"),
    ("filter", "OUTPUT", f"-A OUTPUT {_NEW} -j KUBE-SERVICES"),
    ("filter", "OUTPUT", f"-A OUTPUT {_NEW} -j KUBE-PROXY-FIREWALL"),
    ("nat", "PREROUTING", "-A PREROUTING -j KUBE-SERVICES"),
    ("nat", "OUTPUT", "-A OUTPUT -j KUBE-SERVICES"),
    ("nat", "POSTROUTING", "-A POSTROUTING -j KUBE-POSTROUTING"),
)
Chains = dict[tuple[str, str], list[str]]


def differences(family: int, tables: ParsedTables, expected: Behaviour, settings: Settings, alone: bool) -> list[str]:
    """A line for each rule and chain that differs; `alone`: no other program has rules here."""
    wanted = _wanted(family, expected, settings)
    found = [line for key, rules in wanted.items() for line in of_chain(key, rules, tables, alone)]
    known = wanted.keys() | _OF_SERVICES
    for table, chain in sorted(_OF_SERVICES - tables.chains.keys()):
        found.append(f"{table}: there is no chain {chain}")
    for table, chain in sorted(tables.chains.keys() - known):
        ours = chain.startswith("KUBE-") and not chain.startswith(("KUBE-KUBELET", "KUBE-IPVS"))
        if (alone or ours) and chain not in BUILT_IN and not (table == "nat" and _of_a_port(chain)):
            found.append(f"{table}: chain {chain} is unexpected")
    if alone:
        found += [f"{table}: policy of {chain} is {policy}" for (table, chain), policy in tables.policies.items()]
        found += foreign(tables, wanted)
    return found


def _of_a_port(chain: str) -> bool:
    return chain.startswith(("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"))


def _wanted(family: int, expected: Behaviour, settings: Settings) -> Chains:
    mark = f"{1 << settings.masquerade_bit:#x}"
    wanted: Chains = {(table, "KUBE-PROXY-CANARY"): [] for table in TABLES}
    for table, chain, rule in _JUMPS:
        wanted.setdefault((table, chain), []).append(rule)
    invalid = [] if settings.conntrack_tcp_be_liberal else ["-A KUBE-FORWARD --ctstate INVALID -j DROP"]
    wanted["filter", "KUBE-FORWARD"] = [
        *invalid,
        f"-A KUBE-FORWARD --mark {mark}/{mark} -j ACCEPT",
        "-A KUBE-FORWARD --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ]
    wanted["filter", "KUBE-NODEPORTS"] = [
        f"-A KUBE-NODEPORTS -p tcp --dport {port} -j ACCEPT" for port in sorted(expected.health_check_ports)
    ]
    wanted["nat", "KUBE-POSTROUTING"] = [
        f"-A KUBE-POSTROUTING ! --mark {mark}/{mark} -j RETURN",
        f"-A KUBE-POSTROUTING -j MARK --set-xmark {mark}/0x0",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    ]
    wanted["nat", "KUBE-MARK-MASQ"] = [f"-A KUBE-MARK-MASQ -j MARK --set-xmark {mark}/{mark}"]
    if family == 4 and settings.localhost:
        for chain in ("INPUT", "OUTPUT"):
            wanted["filter", chain].append(f"-A {chain} -j KUBE-FIREWALL")
        loopback = "! -s 127.0.0.0/8 -d 127.0.0.0/8"
        wanted[_GUARD] = [f"-A KUBE-FIREWALL {loopback} ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"]
    return wanted


def of_chain(key: tuple[str, str], wanted: list[str], tables: ParsedTables, alone: bool) -> Iterator[str]:
    """A line for each rule of one chain that is missing, unexpected, duplicate, or out of order."""
    table, chain = key
    if key not in tables.chains and chain not in BUILT_IN:
        yield f"{table}: there is no chain {chain}"
        return
    lines = tables.rules(table, chain)
    if chain in BUILT_IN and not alone:
        lines = [line for line in lines if " -j KUBE-" in line]
    there, asked = [normal(line) for line in lines], [normal(line) for line in wanted]
    missing = [line for line, rule in zip(wanted, asked, strict=True) if rule not in there]
    yield from (f"{table}: missing: {line}" for line in missing)
    for place, (line, rule) in enumerate(zip(lines, there, strict=True)):
        if rule not in asked:
            yield f"{table}: unexpected: {line}"
        elif rule in there[:place]:
            yield f"{table}: duplicate: {line}"
    # Missing jumps are inserted first, and health check ports in order of arrival: their order does not matter.
    ordered = chain not in BUILT_IN and chain != "KUBE-NODEPORTS"
    if ordered and not missing and [rule for rule in there if rule in asked] != asked:
        yield f"{table}: chain {chain} is in a different order: {'; '.join(lines)}"


def foreign(tables: ParsedTables, wanted: Chains) -> Iterator[str]:
    """Rules in built-in chains that should have none."""
    for (table, chain), lines in sorted(tables.chains.items()):
        if chain in BUILT_IN and (table, chain) not in wanted:
            yield from (f"{table}: unexpected: {line}" for line in lines)
