"""Detects which of the two iptables a machine uses: `legacy` (ip_tables) or `nft` (nf_tables)."""

from __future__ import annotations

from engine.kernel.interface import Intact
from engine.kernel.tools import Run, answered

VARIANTS = ("legacy", "nft")
WAIT = ("-w", "5", "-W", "100000")
"""How long to wait for the lock, in seconds, and how often to retry, in microseconds (IPT-08)."""

_HINTS = ((":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY "), (":KUBE-PROXY-CANARY ",))
"""Chains of table mangle that indicate the variant; kubelet's precede those of an earlier proxy."""


def tool(variant: str, family: int, action: str = "") -> str:
    """`iptables-nft`, `ip6tables-legacy-restore` and the like."""
    name = f"{'iptables' if family == 4 else 'ip6tables'}-{variant}"
    return f"{name}-{action}" if action else name


_NO_SUCH_CHAIN, LOCKED = 1, 4
"""Exit codes of iptables; the second means that another program holds the lock."""


def listed(run: Run, command: str, table: str, chain: str) -> Intact:
    """Whether a chain exists; UNKNOWN if the tool could not determine it."""
    code = run([command, *WAIT, "-t", table, "-S", chain], b"").returncode
    return {0: Intact.YES, _NO_SUCH_CHAIN: Intact.NO}.get(code, Intact.UNKNOWN)


def detect(run: Run) -> str:
    """The variant with a hint chain of kubelet or a proxy, else the one with more rules, else that of `iptables`.

    KernelError if a tool hangs.
    """
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
    saved = (answered(run([tool(variant, family, "save"), *options], b"")).stdout for family in (4, 6))
    return [line for text in saved for line in text.decode(errors="replace").splitlines()]
