"""Which of the two iptables a machine uses: `legacy` (ip_tables) or `nft` (nf_tables)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Run = Callable[[list[str], bytes], "subprocess.CompletedProcess[bytes]"]
VARIANTS = ("legacy", "nft")
WAIT = ("-w", "5", "-W", "100000")
"""How long to wait for another one's lock, and how often to look, in seconds and microseconds (IPT-08)."""

_HINTS = (":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY ")


def tool(variant: str, family: int, action: str = "") -> str:
    """`iptables-nft`, `ip6tables-legacy-restore` and the like."""
    name = f"{'iptables' if family == 4 else 'ip6tables'}-{variant}"
    return f"{name}-{action}" if action else name


def detect(run: Run) -> str:
    """The variant in which kubelet left its hint, else the one with more rules, else what `iptables` is."""
    saved = {variant: _saved(run, variant) for variant in ("nft", "legacy")}
    for variant, lines in saved.items():
        if any(line.startswith(_HINTS) for line in lines):
            return variant
    counts = {variant: sum(line.startswith("-A") for line in lines) for variant, lines in saved.items()}
    if counts["nft"] != counts["legacy"]:
        return max(counts, key=counts.__getitem__)
    return "legacy" if b"legacy" in run(["iptables", "-V"], b"").stdout else "nft"


def _saved(run: Run, variant: str) -> list[str]:
    return [
        line
        for family in (4, 6)
        for line in run([tool(variant, family, "save")], b"").stdout.decode(errors="replace").splitlines()
    ]
