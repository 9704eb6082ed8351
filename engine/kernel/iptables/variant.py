"""Which of the two iptables a machine uses: `legacy` (ip_tables) or `nft` (nf_tables)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Run = Callable[[list[str], bytes], "subprocess.CompletedProcess[bytes]"]
VARIANTS = ("legacy", "nft")
WAIT = ("-w", "5", "-W", "100000")
"""How long to wait for another one's lock, and how often to look, in seconds and microseconds (IPT-08)."""

_HINTS = ((":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY "), (":KUBE-PROXY-CANARY ",))
"""Chains of table mangle that tell, those of kubelet before those of an earlier proxy."""


def tool(variant: str, family: int, action: str = "") -> str:
    """`iptables-nft`, `ip6tables-legacy-restore` and the like."""
    name = f"{'iptables' if family == 4 else 'ip6tables'}-{variant}"
    return f"{name}-{action}" if action else name


def detect(run: Run) -> str:
    """The variant with a hint of kubelet or a proxy, else the one with more rules, else what `iptables` is."""
    mangle = {variant: _saved(run, variant, "-t", "mangle") for variant in ("nft", "legacy")}
    for hints in _HINTS:
        for variant, lines in mangle.items():
            if any(line.startswith(hints) for line in lines):
                return variant
    counts = {variant: sum(line.startswith("-A") for line in _saved(run, variant)) for variant in VARIANTS}
    if counts["nft"] != counts["legacy"]:
        return max(counts, key=counts.__getitem__)
    return "legacy" if b"legacy" in run(["iptables", "-V"], b"").stdout else "nft"


def _saved(run: Run, variant: str, *options: str) -> list[str]:
    return [
        line
        for family in (4, 6)
        for line in run([tool(variant, family, "save"), *options], b"").stdout.decode(errors="replace").splitlines()
    ]
