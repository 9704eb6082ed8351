"""Probes the nf_tables features that the engine needs, and reports missing ones.

`nft --check` has the kernel validate the engine's own rules, and a transaction without effect shows that it
supports transactions by netlink.
"""

from __future__ import annotations

from collections.abc import Collection

from engine.backends.nftables.affinity_rules import draws, timeouts
from engine.backends.nftables.skeleton import picks, skeleton
from engine.backends.nftables.text import block
from engine.config import ProxyConfig
from engine.kernel.netlink import CREATE, Connection, NetlinkError, nfnetlink, text
from engine.kernel.nftables.netlink import NFPROTO, SUBSYSTEM
from engine.kernel.tools import Run, answered, first_line

_IP = {4: "ip", 6: "ip6"}
_TABLE = "kube-proxy-probe"
_NEWTABLE, _DELTABLE, _TABLE_NAME = 0x0A00, 0x0A02, 1
_NAT, _SOURCE_NAT, _FILTER = (
    f"type {kind} hook {hook} priority {priority};"
    for kind, hook, priority in (("nat", "output", -100), ("nat", "postrouting", 100), ("filter", "output", 0))
)


def _chain(*rules: str) -> str:
    return block("chain", "c", *rules)


_FEATURES = {
    "NAT chains (nft_chain_nat)": _chain(_NAT),
    "destination NAT by map (nft_nat)": block("map", "m", "typeof meta mark : IP daddr . tcp dport")
    + _chain(_NAT, "meta l4proto tcp dnat to meta mark map @m"),
    "masquerading (nft_masq)": _chain(_SOURCE_NAT, "masquerade fully-random"),
    "connection tracking (nft_ct)": _chain(_FILTER, "ct state new accept"),
    "rejecting (nft_reject)": _chain(_FILTER, "reject"),
    "local addresses (nft_fib)": _chain(_FILTER, "fib daddr type local accept"),
    "random numbers (nft_numgen)": _chain(_FILTER, "numgen random mod 2 0 accept"),
    "hashes (nft_hash)": _chain(_FILTER, "jhash IP saddr mod 4294967295 seed 0x1 0 accept"),
    "maps of verdicts": block("map", "m", "typeof meta mark : verdict") + _chain(_FILTER, "meta mark vmap @m"),
    "concatenated ranges": block("set", "s", "typeof IP daddr . meta l4proto . th dport . IP saddr", "flags interval"),
    "sets that rules fill (session affinity)": block("set", "s", "typeof IP saddr", "flags dynamic,timeout")
    + _chain(_FILTER, "update @s { IP saddr timeout 10s }", "delete @s { IP saddr }"),
}
"""The content of a table that tests each feature; IP stands for the family's keyword."""


def missing(connection: Connection, run: Run, families: Collection[int]) -> str | None:
    """The missing features in one line, None if there are none.  KernelError if nft hangs."""
    try:
        connection.transaction([m for family in families for m in _nothing(family)], SUBSYSTEM)
    except NetlinkError as error:
        return f"nf_tables of this kernel does not support transactions by netlink: {error.first}"
    config = ProxyConfig()
    whole = "".join(
        skeleton(family, config) + picks(family, 1, 2) + draws(family, 1, 2) + timeouts(family, {}, {1: 10})
        for family in families
    )
    refused = _refused(run, whole)
    if not refused:
        return None
    lacking = [
        f"{name} for IPv{family}"
        for family in families
        for name, body in _FEATURES.items()
        if _refused(run, _table(family, body))
    ]
    return f"nft or nf_tables of this kernel lacks {', '.join(lacking) or 'something'}: {refused}"


def _table(family: int, body: str) -> str:
    return f"table {_IP[family]} {_TABLE} {{\n{body.replace('IP ', f'{_IP[family]} ')}}}\n"


def _nothing(family: int) -> list[bytes]:
    """Create and delete a table in one transaction."""
    name = text(_TABLE_NAME, _TABLE)
    return [nfnetlink(_NEWTABLE, CREATE, NFPROTO[family], name), nfnetlink(_DELTABLE, 0, NFPROTO[family], name)]


def _refused(run: Run, rules: str) -> str:
    """The first line of nft's error for rules that it, or the kernel, rejects; empty if they are valid."""
    done = answered(run(["nft", "--check", "-f", "-"], rules.encode()))
    return first_line(done) if done.returncode else ""
