"""Mode ipvs: compares virtual servers, ipsets, addresses, iptables rules and sysctls with the expected state."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from harness.judge.behaviour import PROTOCOL_NUMBERS, Behaviour
from harness.judge.oracle.settings import Block, Settings
from harness.judge.readback import ipvs_rules
from harness.judge.readback.check_result import CheckResult, attempted, nothing, settings_differ
from harness.judge.readback.compare import compare
from harness.judge.readback.iptables_fixed import foreign, of_chain
from harness.judge.readback.iptables_text import BUILT_IN, ParsedTables
from harness.judge.readback.ipvs import Read, behaviour_of, set_name

SYSCTLS = (
    "net.ipv4.vs.conntrack", "net.ipv4.vs.expire_nodest_conn", "net.ipv4.vs.expire_quiescent_template",
    "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.arp_announce",
)  # fmt: skip


class IpvsState(NamedTuple):
    """One family; `alone`: no other program has rules there."""

    read: Read
    tables: ParsedTables
    sysctls: dict[str, str]
    alone: bool


def judge(family: int, state: IpvsState | None, expected: Behaviour, settings: Settings) -> CheckResult:
    """The complete state of this mode (IPVS-01 to IPVS-20)."""
    if state is None:
        return nothing(expected)
    read, tables = state.read, state.tables
    sets = expected.sets or {}
    found = [*_sets(family, sets, read), *_servers(read, settings), *_rules(family, sets, state, settings)]
    actual = attempted(lambda: behaviour_of(family, read))
    found += [actual] if isinstance(actual, str) else compare(_without_health_checks(expected), actual)
    checked = {
        "servers": len(read.servers),
        "destinations": sum(map(len, read.servers.values())),
        "entries": sum(map(len, read.sets.values())),
        "addresses": len(read.addresses),
        "rules": sum(map(len, tables.chains.values())),
    }
    wanted = _sysctls(family, settings)
    found += settings_differ(wanted, state.sysctls)
    return CheckResult(found, checked | {"sysctls": len(wanted)}, [])


def _without_health_checks(expected: Behaviour) -> Behaviour:
    """Their ports are in a set, which is compared as a whole."""
    return expected._replace(health_check_ports=frozenset())


def _sysctls(family: int, settings: Settings) -> dict[str, str]:
    """IPVS-02."""
    names = [*SYSCTLS[:3], SYSCTLS[3] if family == 4 else SYSCTLS[4]]
    found = dict.fromkeys(names, "1")
    if settings.ipvs_strict_arp:
        found |= {SYSCTLS[5]: "1", SYSCTLS[6]: "2"}
    return found


def _sets(family: int, wanted: dict[str, set[str]], read: Read) -> Iterator[str]:
    """Each set's entries, in normal form."""
    names = {set_name(family, name): entries for name, entries in wanted.items()}
    yield from (f"there is no set {name}" for name in sorted(names.keys() - read.sets.keys()))
    yield from (f"set {name} is unexpected" for name in sorted(read.sets.keys() - names.keys()))
    for name in sorted(names.keys() & read.sets.keys()):
        there = {_entry(text) for text in read.sets[name]}
        asked = {_entry(text) for text in names[name]}
        yield from (f"set {name}: missing: {entry}" for entry in sorted(asked - there)[:10])
        yield from (f"set {name}: unexpected: {entry}" for entry in sorted(there - asked)[:10])


def _entry(text: str) -> str:
    """Addresses in Python's form, single-address blocks without prefix length."""
    return ",".join(str(_address(part)) if "." in part or part.count(":") > 1 else part for part in text.split(","))


def _address(text: str) -> object:
    """The value of a text, to be printed in normal form."""
    network = ipaddress.ip_network(text, strict=False)
    return network.network_address if network.prefixlen == network.max_prefixlen else network


def _servers(read: Read, settings: Settings) -> Iterator[str]:
    """A server's scheduler and forwarding (IPVS-05, IPVS-06); its destinations are compared as behaviour."""
    for server, text in sorted(read.options.items()):
        words = text.split()
        flags = words[words.index("-b") + 1] if "-b" in words else ""
        wanted = "mh-port" if settings.ipvs_scheduler == "mh" else ""
        if words[words.index("-s") + 1] != settings.ipvs_scheduler or flags != wanted:
            yield f"virtual server {_name(server)}: {text}, not -s {settings.ipvs_scheduler} {wanted}".rstrip()
        mask = words[words.index("-M") + 1] if "-M" in words else ""
        if mask not in ("", "255.255.255.255", "128"):
            yield f"virtual server {_name(server)}: clients are distinguished only by {mask}"
    for server, weights in sorted(read.servers.items()):
        if set(weights.values()) - {0, 1}:
            yield f"virtual server {_name(server)}: weights {sorted(weights.values())}"
    yield from (f"not forwarded by masquerading: {line}" for line in read.otherwise)


def _rules(family: int, sets: dict[str, set[str]], state: IpvsState, settings: Settings) -> Iterator[str]:
    filled = frozenset(name for name, entries in sets.items() if entries)
    wanted = ipvs_rules.wanted(family, filled, sorted(_barred(sets)), settings)
    for key, rules in wanted.items():
        yield from of_chain(key, [rule.replace("-A X", f"-A {key[1]}", 1) for rule in rules], state.tables, state.alone)
    for table, chain in sorted(state.tables.chains.keys() - wanted.keys()):
        if state.alone and chain not in BUILT_IN:
            yield f"{table}: chain {chain} is unexpected"
    if state.alone:
        yield from (f"{table}: policy of {c} is {policy}" for (table, c), policy in state.tables.policies.items())
        yield from foreign(state.tables, wanted)


def _barred(sets: dict[str, set[str]]) -> Iterator[tuple[bytes, int, int]]:
    """Load balancer IPs outside their own source ranges, so that the node itself may not use them (LB-05)."""
    allowed: dict[str, list[Block]] = {entry: [] for entry in sets.get("LOAD-BALANCER-FW", ())}
    for kind in ("IP", "CIDR"):
        for entry in sets.get(f"LOAD-BALANCER-SOURCE-{kind}", ()):
            server, _, source = entry.rpartition(",")
            allowed[server].append(ipaddress.ip_network(source))
    for entry, networks in allowed.items():
        address, _, rest = entry.partition(",")
        protocol, _, port = rest.partition(":")
        ip = ipaddress.ip_address(address)
        if not any(ip in network for network in networks):
            yield ip.packed, PROTOCOL_NUMBERS[protocol], int(port)


def _name(server: tuple[bytes, int, int]) -> str:
    return f"{ipaddress.ip_address(server[0])} {server[1]}/{server[2]}"
