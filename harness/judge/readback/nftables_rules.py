"""The rules of nftables mode, derived independently from their requirements, and compared chain by chain.

Chains that are independent of Services are `fixed`; chains that exist per count or timeout are recognised
by name.  Rules are compared as words in normal form, as versions of nft print them differently.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from functools import cache
from typing import NamedTuple

from harness.judge.behaviour import PROTOCOL_NUMBERS
from harness.judge.oracle.settings import LOCALHOST_GATE, Settings, block
from harness.judge.trace.ruleset import Table, duration_seconds, value, words_of

_TRANSPORTS = ("tcp", "udp", "sctp")
_KINDS = ("cluster", "local")
_COUNTED = re.compile(r"(pick|large|draw)-([1-9]\d*)|(remember)-(cluster|local)-([1-9]\d*)")
_DURATION = re.compile(r"(\d+(d|h|m|s))+")
_PORT, _SET, _BLOCK, _COUNT = "1:fffe", "1:ffff", "1:ffe0", "fffe:0"
_NEW = "ct state new jump"


class Chain(NamedTuple):
    """A chain's rules, and for a base chain (type, hook, priority)."""

    rules: list[str]
    hook: tuple[str, str, int] | None = None


def differences(family: int, table: Table, everywhere: bool, settings: Settings) -> Iterator[str]:
    """A line for each chain that is missing, unexpected or different; `everywhere`: as `Behaviour.node_addresses`."""
    ip = "ip" if family == 4 else "ip6"
    wanted = fixed(family, ip, everywhere, settings)
    for name in table.chains:
        if name not in wanted:
            rules = _counted(ip, name)
            if rules is None:
                yield f"chain {name} is unexpected"
            else:
                wanted[name] = Chain(rules)
    for name, chain in wanted.items():
        if name not in table.chains:
            yield f"there is no chain {name}"
            continue
        if table.hooks.get(name) != chain.hook:
            yield f"chain {name} is at {table.hooks.get(name)}, not {chain.hook}"
        if table.policies.get(name, "accept") != "accept":
            yield f"chain {name} has policy {table.policies[name]}"
        yield from _rules(name, table.chains[name], chain.rules)


def _rules(name: str, there: list[list[str]], wanted: list[str]) -> Iterator[str]:
    found, asked = [normal(tuple(rule)) for rule in there], [_normal_text(rule) for rule in wanted]
    if found == asked:
        return
    missing = [text for text, rule in zip(wanted, asked, strict=True) if rule not in found]
    yield from (f"chain {name}: missing: {text}" for text in missing)
    unexpected = [words for words, rule in zip(there, found, strict=True) if rule not in asked]
    yield from (f"chain {name}: unexpected: {' '.join(words)}" for words in unexpected)
    if not missing and not unexpected:
        yield f"chain {name}: rules duplicate or in a different order: {'; '.join(' '.join(words) for words in there)}"


@cache
def normal(words: tuple[str, ...]) -> tuple[Hashable, ...]:
    """A rule's words in normal form: numbers, addresses and times by value, without optional words."""
    found: list[Hashable] = []
    for word in words:
        if word in ("ip", "ip6") and found[-1:] == ["dnat"]:
            continue
        if word == "iifname" and found[-1:] == ["meta"]:
            found.pop()
        found.append(_constant(word))
    return tuple(found)


@cache
def _normal_text(text: str) -> tuple[Hashable, ...]:
    return normal(tuple(words_of(text)))


@cache
def _constant(word: str) -> Hashable:
    if _DURATION.fullmatch(word):
        return "time", duration_seconds(word)
    if word in PROTOCOL_NUMBERS:  # printed as a number on a machine without /etc/protocols
        return PROTOCOL_NUMBERS[word]
    if not any(letter.isdigit() for letter in word) and word != "none" and "::" not in word:
        return word
    try:
        constant: Hashable = value(word)
        return constant
    except ValueError:
        return word


def fixed(family: int, ip: str, everywhere: bool, settings: Settings) -> dict[str, Chain]:
    """The required chains by name."""
    mark = f"{1 << settings.masquerade_bit:#x}"
    pods, others = _pods(family, ip, settings)
    node_port = f"{ip} daddr @nodeport-ips"
    if everywhere:
        node_port = f"fib daddr type local {ip} daddr != {'127.0.0.0/8' if family == 4 else '::1'}"
    set_mark = f"meta mark set meta mark | {mark}"
    masquerade = [set_mark] if settings.masquerade_all else [f"{others} {set_mark}"] if others else []
    found = {
        "pick": Chain(["meta priority & fff0:0 vmap @picks", "meta priority & ffff:e000 vmap @large-picks"]),
        "masqueraded-traffic": Chain([set_mark, "goto pick"]),
        "cluster-traffic": Chain([*masquerade, "goto pick"]),
        "services": Chain(_services(ip, pods, node_port)),
        "nat-prerouting": Chain(["jump services"], ("nat", "prerouting", -100)),
        "nat-output": Chain(["jump services"], ("nat", "output", -100)),
        "masquerading": Chain([f"meta mark set meta mark ^ {mark}", "masquerade fully-random"]),
        "nat-postrouting": Chain(
            [
                "ct status dnat meta priority set none",
                f"meta mark & {mark} == {mark} goto masquerading",
                f"ct status dnat {_hairpin(family, ip, settings)} masquerade fully-random",
            ],
            ("nat", "postrouting", 100),
        ),
    }
    found |= _filter(family, ip, node_port, settings)
    for kind, other in (_KINDS, _KINDS[::-1]):
        found |= _sticky(ip, kind, other)
    return found


def _pods(family: int, ip: str, settings: Settings) -> tuple[str, str]:
    """Matches for pods and for all others, empty if pods cannot be detected (DET-01 to DET-04)."""
    network = settings.pod_block(4 if family == 4 else 16)
    if network:
        return f"{ip} saddr {network}", f"{ip} saddr != {network}"
    if not settings.detects_pods(4 if family == 4 else 16):
        return "", ""
    suffix = "*" if settings.detect_local_mode == "InterfaceNamePrefix" else ""
    interface = f'"{settings.pod_interface}{suffix}"'
    return f"iifname {interface}", f"iifname != {interface}"


def _services(ip: str, pods: str, node_port: str) -> list[str]:
    address = f"meta priority set {ip} daddr . meta l4proto . th dport map"
    port = f"{node_port} meta priority set meta l4proto . th dport map"
    pod_rules = [f"{pods} {address} @short-circuits goto pick", f"{pods} {port} @short-circuit-nodeports goto pick"]
    return [
        f"{address} @services goto cluster-traffic",
        f"{address} @external-services goto masqueraded-traffic",
        f"{port} @nodeports goto masqueraded-traffic",
        *(pod_rules if pods else ()),
        f"fib saddr type local {address} @short-circuits goto masqueraded-traffic",
        f"fib saddr type local {port} @short-circuit-nodeports goto masqueraded-traffic",
        f"{address} @local-services goto pick",
        f"{port} @local-nodeports goto pick",
    ]


def hairpin_by_endpoint(settings: Settings) -> bool:
    """Whether only this node's endpoints are masqueraded for hairpin connections (HAIR-01a)."""
    return settings.version >= (1, 36)


def _hairpin(family: int, ip: str, settings: Settings) -> str:
    """Match for a hairpin connection: a local endpoint, or source equal to destination, bytewise from the last byte."""
    if hairpin_by_endpoint(settings):
        return f"{ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections"
    if family == 4:
        masks = [".".join("255" if place == byte else "0" for place in range(4)) for byte in (3, 2, 1, 0)]
    else:
        masks = [_mask6(byte) for byte in range(15, -1, -1)]
    return " ".join(f"{ip} saddr & {mask} . {ip} daddr & {mask} @equal-bytes" for mask in masks)


def _mask6(byte: int) -> str:
    groups = ["0"] * 8
    groups[byte // 2] = "ff" if byte % 2 else "ff00"
    return ":".join(groups)


def _filter(family: int, ip: str, node_port: str, settings: Settings) -> dict[str, Chain]:
    address = f"{ip} daddr . meta l4proto . th dport"
    port = f"{node_port} meta l4proto . th dport"
    asking = f"{ip} daddr . ct protocol . th dport . {ip} saddr"
    guard = f"ct state new {address} @firewalled {asking} != @firewall-allowed drop"
    networks = settings.service_cidrs if settings.gate("MultiCIDRServiceAllocator") else ()
    unallocated = [b for b in map(block, networks) if b.version == family]
    entry, loopback = [f"{_NEW} nodeport-check", f"{_NEW} service-check"], {}
    if settings.gate(LOCALHOST_GATE):
        here = f"{ip} daddr {'127.0.0.0/8' if family == 4 else '::1'}"
        entry.insert(0, f"ct state new {here} meta l4proto . th dport @localhost-nodeports jump localhost-check")
        counted = 'meta l4proto {0} counter name "localhost-nodeport-rejected-{0}" reject'
        loopback = {"localhost-check": Chain([counted.format(t) for t in _TRANSPORTS])}
    return loopback | {
        "service-check": Chain(
            [
                f"{address} @drop-services drop",
                f"{address} @reject-services reject",
                f"{ip} daddr @cluster-ips reject",
                *(f"{ip} daddr {network} drop" for network in unallocated),
            ]
        ),
        "nodeport-check": Chain([f"{port} @drop-nodeports drop", f"{port} @reject-nodeports reject"]),
        "filter-prerouting-pre-dnat": Chain([guard], ("filter", "prerouting", -110)),
        "filter-output-pre-dnat": Chain([guard], ("filter", "output", -110)),
        "filter-input": Chain(entry, ("filter", "input", 0)),
        "filter-forward": Chain([f"{_NEW} service-check"], ("filter", "forward", 0)),
        "filter-output": Chain([f"{_NEW} service-check"], ("filter", "output", 0)),
    }


def _client(ip: str) -> str:
    if ip == "ip":
        return f"meta priority & {_PORT} . ip saddr"
    hashes = (f"jhash ip6 saddr mod 4294967295 seed {seed:#x}" for seed in (1, 2))
    return " . ".join([f"meta priority & {_PORT}", *hashes])


def _sticky(ip: str, kind: str, other: str) -> dict[str, Chain]:
    """Session affinity: the client's ticket while valid, else a random one; then recorded (AFF-01 to AFF-04)."""
    client, valid = _client(ip), f"meta priority @sticky-{kind}-members return"
    ticket = [
        f"meta priority set {client} map @sticky-{kind}-clients",
        valid,
        f"delete @sticky-{kind}-clients {{ {client} : meta priority }}",
        f"meta priority set {client} map @sticky-{other}-clients",
        valid,
        f"meta priority set meta priority & {_PORT} map @sticky-{kind}-sets",
        f"meta priority & {_COUNT} vmap @draws",
    ]
    dnat = [f"meta l4proto {t} dnat to meta priority map @sticky-{t}" for t in _TRANSPORTS]
    remembered = f"meta priority & {_BLOCK} vmap @sticky-{kind}-timeouts"
    return {
        f"sticky-{kind}-ticket": Chain(ticket),
        f"sticky-{kind}": Chain([f"jump sticky-{kind}-ticket", remembered, *dnat]),
    }


@cache
def _counted(ip: str, name: str) -> list[str] | None:
    """The rules of a chain with a number in its name; None if there is no such chain."""
    match = _COUNTED.fullmatch(name)
    if match is None:
        return None
    if match[3]:
        clients = f"sticky-{match[4]}-clients"
        return [f"update @{clients} {{ {_client(ip)} timeout {match[5]}s : meta priority }}"]
    count = int(match[2])
    if match[1] == "draw":
        drawn = f"meta priority set meta priority & {_SET} . numgen random mod {{}} map @sticky-slots"
        return [f"{drawn.format(count)} return", *([drawn.format(1)] if count > 1 else [])]
    number = "f:ffff" if match[1] == "pick" else "0:1fff"
    # The second rule of each handles a lookup between two generations of the ruleset.
    return [
        f"meta l4proto {t} dnat to meta priority & {number} . numgen random mod {drawn} map @{t}-endpoints"
        for t in _TRANSPORTS
        for drawn in ((count, 1) if count > 1 else (1,))
    ]
