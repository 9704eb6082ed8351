"""Mode nftables: compares rules, base chains, sets and every element with the expected state."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from harness.judge.behaviour import Behaviour
from harness.judge.oracle.settings import LOCALHOST_GATE, Settings
from harness.judge.readback import nftables_rules
from harness.judge.readback.check_result import CheckResult, attempted, nothing
from harness.judge.readback.compare import compare
from harness.judge.readback.nftables import COUNT_SHIFT, LARGE_SHIFT, PORT_MASK, TICKET_SHIFT, Tables, behaviour_of
from harness.judge.readback.nftables_rules import hairpin_by_endpoint
from harness.judge.trace.ruleset import Table
from harness.wording import plural

KINDS = {"cluster": 0xFFE, "local": 0xFFF}
FILLED_BY_RULES = ("sticky-cluster-clients", "sticky-local-clients")
VERDICTS = ("picks", "large-picks", "draws", "sticky-cluster-timeouts", "sticky-local-timeouts")
SETS = (
    "services", "external-services", "local-services", "short-circuits", "nodeports", "local-nodeports",
    "short-circuit-nodeports", "cluster-ips", "reject-services", "drop-services", "reject-nodeports",
    "drop-nodeports", "nodeport-ips", "firewalled", "firewall-allowed",
    "tcp-endpoints", "udp-endpoints", "sctp-endpoints", *VERDICTS,
    "sticky-slots", "sticky-tcp", "sticky-udp", "sticky-sctp",
    "sticky-cluster-sets", "sticky-cluster-members", "sticky-local-sets", "sticky-local-members",
)  # fmt: skip
"""Sets and maps whose elements the proxy writes in every version."""
OF_VERSIONS = ("equal-bytes", "hairpin-connections", "localhost-nodeports")
"""Sets and maps that it writes only in some versions."""
_FLAGS = {"firewall-allowed": {"interval"}} | dict.fromkeys(FILLED_BY_RULES, {"dynamic", "timeout"})
_CLIENTS = "1048576"
_LARGE = 3 << 30
_pack = struct.Struct("=I").pack


class NftablesState(NamedTuple):
    """One family: elements by set, those of verdict maps as chain names.

    `verbs`: goto or jump by (map, key); `table`: chains and sets as listed by nft.  Both None in memory.
    """

    sets: Tables
    verbs: dict[tuple[str, bytes], str] | None
    table: Table | None


def judge(
    family: int,
    state: NftablesState | None,
    expected: Behaviour,
    settings: Settings,
    part: Behaviour | None = None,
    hairpins: bool = True,
) -> CheckResult:
    """Every rule, base chain, set and element, and their combined behaviour.

    With `part`, `state` has the elements of these destinations alone, and rules only if they changed; unless
    `hairpins`, only endpoints of these destinations are looked for among hairpins.
    """
    if state is None:
        return nothing(expected)
    known, wanted = _known(settings), expected if part is None else part
    found = [*_elements(state.sets), *_own(family, state.sets, expected, expected if hairpins else wanted, settings)]
    actual = attempted(lambda: behaviour_of(family, state.sets, settings, expected.overshadowed))
    found += [actual] if isinstance(actual, str) else compare(wanted, actual)
    checked = {"elements": sum(map(len, state.sets.values()))}
    if state.table is None:
        return CheckResult(found, checked, ["rules: the kernel is in memory"] if part is None else [])
    table = state.table
    found += nftables_rules.differences(family, table, expected.node_addresses is None, settings)
    found += _declared(table, known)
    found += _verdicts(state.sets, state.verbs or {}, table)
    checked |= {"chains": len(table.chains), "rules": sum(map(len, table.chains.values())), "sets": len(table.declared)}
    return CheckResult(found, checked, ["clients recorded by rules (session affinity)"])


def _known(settings: Settings) -> set[str]:
    """The sets of a version."""
    hairpin = "hairpin-connections" if hairpin_by_endpoint(settings) else "equal-bytes"
    return {*SETS, *FILLED_BY_RULES, hairpin, *(["localhost-nodeports"] if settings.gate(LOCALHOST_GATE) else ())}


def _declared(table: Table, known: set[str]) -> Iterator[str]:
    yield from (f"there is no set {name}" for name in sorted(known - table.sets.keys()))
    yield from (f"set {name} is unexpected" for name in sorted(table.sets.keys() - known))
    for name in sorted(known & table.sets.keys()):
        declared = {line[0]: {word for word in line[1:] if word != ","} for line in table.declared.get(name, ())}
        if declared.get("flags", set()) != _FLAGS.get(name, set()):
            yield f"set {name} has flags {sorted(declared.get('flags', set()))}"
        size = {_CLIENTS} if name in FILLED_BY_RULES else set()
        if declared.get("size", set()) != size or "timeout" in declared:
            yield f"set {name} has a different size or timeout: {declared}"


def _verdicts(sets: Tables, verbs: dict[tuple[str, bytes], str], table: Table) -> Iterator[str]:
    """Each numbered chain is referenced by exactly its element, and no element refers to another chain."""
    picks = {_pack(number << COUNT_SHIFT): ("goto", f"sticky-{kind}") for kind, number in KINDS.items()}
    large: dict[bytes, tuple[str, str]] = {}
    draws: dict[bytes, tuple[str, str]] = {}
    remembering: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for name in table.chains:
        head, _, tail = name.rpartition("-")
        if not tail.isdigit():
            continue
        if head == "pick":
            picks[_pack(int(tail) << COUNT_SHIFT)] = ("goto", name)
        elif head == "large":
            large[_pack(_LARGE | int(tail) << LARGE_SHIFT)] = ("goto", name)
        elif head == "draw":
            draws[_pack(int(tail) << TICKET_SHIFT)] = ("jump", name)
        elif head.removeprefix("remember-") in remembering:
            remembering[head.removeprefix("remember-")].add(name)
    for map_name, wanted in (("picks", picks), ("large-picks", large), ("draws", draws)):
        yield from _map(map_name, wanted, sets, verbs)
    for kind, chains in remembering.items():
        map_name = f"sticky-{kind}-timeouts"
        wanted = {key: ("jump", chain.decode()) for key, chain in sets[map_name].items()}
        yield from _map(map_name, wanted, sets, verbs)
        led = {chain for _, chain in wanted.values()}
        yield from (f"map {map_name} and its chains differ by {name}" for name in sorted(led ^ chains))


def _map(
    name: str, wanted: dict[bytes, tuple[str, str]], sets: Tables, verbs: dict[tuple[str, bytes], str]
) -> Iterator[str]:
    there = {key: (verbs.get((name, key), ""), chain.decode()) for key, chain in sets[name].items()}
    for key in sorted(wanted.keys() | there.keys()):
        if wanted.get(key) != there.get(key):
            yield f"map {name}: {key.hex()} maps to {there.get(key)}, expected {wanted.get(key)}"


def _own(family: int, sets: Tables, expected: Behaviour, part: Behaviour, settings: Settings) -> Iterator[str]:
    """Sets specific to this node: hairpins of its endpoints (HAIR-01a), node ports rejected on loopback (NP-12)."""
    size = 4 if family == 4 else 16
    if hairpin_by_endpoint(settings):
        there = {_endpoint(key, size) for key in sets["hairpin-connections"]}
        own = expected.own_endpoints or frozenset()
        used = own.intersection(_targets(part))
        yield from (f"set hairpin-connections: missing: {target}" for target in sorted(used - there))
        yield from (f"set hairpin-connections: unexpected: {target}" for target in sorted(there - own))
    else:
        constant = _equal_bytes(size)
        if sets["equal-bytes"].keys() != constant:
            yield f"set equal-bytes differs in {plural(len(sets['equal-bytes'].keys() ^ constant), 'element')}"
    served = {6} if settings.localhost_served(size) else set()
    wanted = {port for port in expected.nodeports if port[0] not in served} if settings.gate(LOCALHOST_GATE) else set()
    ports = {(key[0], key[4] << 8 | key[5]) for key in sets["localhost-nodeports"]}
    yield from (f"set localhost-nodeports: {port} is on one side only" for port in sorted(wanted ^ ports))


@cache
def _equal_bytes(size: int) -> set[bytes]:
    """Both addresses of a connection with all bytes masked but one, which is the same in both."""
    return {(v << 8 * place).to_bytes(size, "big") * 2 for v in range(256) for place in range(size)}


def _endpoint(key: bytes, size: int) -> tuple[bytes, int, int]:
    """Address, protocol and port of a hairpin connection; None if source and destination differ."""
    address = key[:size] if key[:size] == key[size : 2 * size] else b""
    return address, key[2 * size], key[2 * size + 4] << 8 | key[2 * size + 5]


def _targets(expected: Behaviour) -> Iterator[tuple[bytes, int, int]]:
    """Endpoints that any client may reach, with their protocol."""
    for table in (expected.destinations, expected.nodeports):
        for key, destination in table.items():
            for outcome in destination.outcomes:
                for address, port in outcome[1] if outcome[0] == "dnat" else ():
                    yield address, key[-2], port


def _elements(sets: Tables) -> Iterator[str]:
    """Checks that no destination covers: pairs of maps that must agree."""
    timeouts = [
        {key: chain.rpartition(b"-")[2] for key, chain in sets[f"sticky-{kind}-timeouts"].items()} for kind in KINDS
    ]
    if timeouts[0] != timeouts[1]:
        yield "maps sticky-cluster-timeouts and sticky-local-timeouts differ"
    yield from _counted(sets)


def _counted(sets: Tables) -> Iterator[str]:
    """The sizes of all sets of tickets, used or not, and of nothing else."""
    slots: dict[int, int] = {}
    for key in sets["sticky-slots"]:
        number = struct.unpack_from("=I", key)[0]
        slots[number] = slots.get(number, 0) + 1
    for local, kind in enumerate(KINDS):
        wanted = {
            _pack(number & PORT_MASK): _pack(count << TICKET_SHIFT | number)
            for number, count in slots.items()
            if number & 1 == local
        }
        there = {key: data[:4] for key, data in sets[f"sticky-{kind}-sets"].items()}
        if wanted != there:
            yield f"map sticky-{kind}-sets disagrees with the number of slots: {len(wanted.items() ^ there.items())}"
