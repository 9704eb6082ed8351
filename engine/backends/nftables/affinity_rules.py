"""The rules of session affinity, as text (AFF-01 to AFF-06).

A pick of a port with affinity jumps to chain `sticky-cluster` or `sticky-local`.  Both look up the
client's *ticket* (see `affinity`), store it, and DNAT to its endpoint:

- A ticket is looked up in the client map of its kind, then in that of the other kind, as both kinds of a
  port share their clients (AFF-04).  It is valid only while it is a member of the kind's set.
- Otherwise a ticket is drawn.  The client's previous entry is deleted first: `update` renews the timeout of an
  existing element, but never replaces its data.
- How long a client is remembered depends on its port's block (see `numbers`), so that chains and maps
  are per timeout and not per port.  Chains of a timeout have no gotos: the kernel walks all paths through
  the chains when it validates a new one.

The key of a client is its port and its address.  nft up to 1.0.6 allows 16 bytes for the key of an element with
data; an IPv6 address is therefore represented by two hashes, which collide for one pair of clients in 2^64.
Two such clients would share an endpoint, without other effects.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.backends.nftables.numbers import (
    BLOCK_BITS,
    ID_BITS,
    STICKY_CLUSTER,
    STICKY_ID_BITS,
    STICKY_LOCAL,
    priority,
)
from engine.backends.nftables.text import block
from engine.model import PROTOCOL_NAMES

KINDS = {"cluster": STICKY_CLUSTER, "local": STICKY_LOCAL}
_TRANSPORTS = tuple(sorted(PROTOCOL_NAMES.values(), key=len))
_VERDICTS = "typeof meta priority : verdict"
_CLIENTS = 1 << 20
_PORT = f"meta priority & {priority((1 << STICKY_ID_BITS) - 2)}"
_SET = f"meta priority & {priority((1 << STICKY_ID_BITS) - 1)}"
_BLOCK = f"meta priority & {priority((1 << STICKY_ID_BITS) - (2 << BLOCK_BITS))}"
_COUNT = f"meta priority & {priority((1 << 32) - (1 << STICKY_ID_BITS))}"


def sticky_gotos() -> dict[str, str]:
    """Elements of map `picks` for ports with affinity."""
    return {priority(number << ID_BITS): f"goto sticky-{kind}" for kind, number in KINDS.items()}


def sticky_sets(ip: str) -> str:
    """The maps and sets whose elements come from `affinity`, and those filled by the rules."""
    numbers = "typeof meta priority"
    blocks = [
        block("map", "sticky-slots", f"{numbers} . numgen random mod 65536 : meta priority"),
        block("map", "draws", _VERDICTS),
    ]
    blocks += [block("map", f"sticky-{t}", f"{numbers} : {ip} daddr . {t} dport") for t in _TRANSPORTS]
    client = f"{ip} saddr" if ip == "ip" else " . ".join(["numgen random mod 65536"] * 2)
    for kind in KINDS:
        blocks += [
            block("map", f"sticky-{kind}-sets", f"{numbers} : meta priority"),
            block("set", f"sticky-{kind}-members", numbers),
            block("map", f"sticky-{kind}-timeouts", _VERDICTS),
            block(
                "map",
                f"sticky-{kind}-clients",
                f"{numbers} . {client} : meta priority",
                f"size {_CLIENTS}",
                "flags dynamic,timeout",
            ),
        ]
    return "".join(blocks)


def sticky_chains(ip: str) -> str:
    """The chains of both kinds of sets that do not depend on the timeout."""
    key = _client(ip)
    blocks = []
    for kind, other in (("cluster", "local"), ("local", "cluster")):
        own, theirs = f"sticky-{kind}-clients", f"sticky-{other}-clients"
        valid = f"meta priority @sticky-{kind}-members return"
        ticket = [
            f"meta priority set {key} map @{own}",
            valid,
            f"delete @{own} {{ {key} : meta priority }}",
            f"meta priority set {key} map @{theirs}",
            valid,
            f"meta priority set {_PORT} map @sticky-{kind}-sets",
            f"{_COUNT} vmap @draws",
        ]
        dnat = [f"meta l4proto {t} dnat to meta priority map @sticky-{t}" for t in _TRANSPORTS]
        blocks += [
            block("chain", f"sticky-{kind}-ticket", *ticket),
            block(
                "chain",
                f"sticky-{kind}",
                f"jump sticky-{kind}-ticket",
                f"{_BLOCK} vmap @sticky-{kind}-timeouts",
                *dnat,
            ),
        ]
    return "".join(blocks)


def draws(family: int, first: int, last: int) -> str:
    """Text that adds chains `draw-FIRST` to `draw-LAST`, which draw a ticket instead of an endpoint."""
    blocks = []
    for count in range(first, last + 1):
        drawn = f"meta priority set {_SET} . numgen random mod {{}} map @sticky-slots"
        again = [drawn.format(1)] if count > 1 else []
        blocks.append(block("chain", f"draw-{count}", f"{drawn.format(count)} return", *again))
    jumps = ", ".join(f"{priority(count << STICKY_ID_BITS)} : jump draw-{count}" for count in range(first, last + 1))
    blocks.append(block("map", "draws", _VERDICTS, f"elements = {{ {jumps} }}"))
    return f"table {_ip(family)} kube-proxy {{\n{''.join(blocks)}}}\n"


def timeouts(family: int, before: dict[int, int], now: dict[int, int]) -> str:
    """Text that changes the timeouts of port blocks from `before` to `now`, in seconds.

    A timeout has one chain per kind, which exists as long as a block has the timeout.
    """
    gone = sorted(number for number, seconds in before.items() if now.get(number) != seconds)
    new = sorted(number for number, seconds in now.items() if before.get(number) != seconds)
    lines = []
    for kind in KINDS:
        if gone:
            keys = ", ".join(map(_block_key, gone))
            lines.append(f"delete element {_ip(family)} kube-proxy sticky-{kind}-timeouts {{ {keys} }}\n")
        for seconds in sorted(set(before.values()) - set(now.values())):
            lines.append(f"delete chain {_ip(family)} kube-proxy remember-{kind}-{seconds}\n")
    if new:
        added = sorted(set(now.values()) - set(before.values()))
        lines.append(f"table {_ip(family)} kube-proxy {{\n{_timeout_blocks(_ip(family), added, new, now)}}}\n")
    return "".join(lines)


def _timeout_blocks(ip: str, added: Iterable[int], numbers: list[int], seconds_of: dict[int, int]) -> str:
    blocks = []
    for kind in KINDS:
        clients, key = f"sticky-{kind}-clients", _client(ip)
        for seconds in added:
            remember = [
                f"update @{clients} {{ {key} timeout {seconds}s : meta priority }}",
            ]
            blocks.append(block("chain", f"remember-{kind}-{seconds}", *remember))
        jumps = ", ".join(f"{_block_key(n)} : jump remember-{kind}-{seconds_of[n]}" for n in numbers)
        blocks.append(block("map", f"sticky-{kind}-timeouts", _VERDICTS, f"elements = {{ {jumps} }}"))
    return "".join(blocks)


def _block_key(number: int) -> str:
    return priority(number << BLOCK_BITS + 1)


def _client(ip: str) -> str:
    """Port and address of a client; the port is taken from a pick or a ticket."""
    if ip == "ip":
        return f"{_PORT} . ip saddr"
    return " . ".join([_PORT, *(f"jhash ip6 saddr mod 4294967295 seed {seed:#x}" for seed in (1, 2))])


def _ip(family: int) -> str:
    return "ip" if family == 4 else "ip6"
