"""Removal of what proxies of each mode leave in the kernel (CLN-01 to CLN-03). What is absent is no failure."""

from __future__ import annotations

from engine.kernel.iptables.variant import VARIANTS, WAIT, tool
from engine.server.host import NOT_INSTALLED, run
from engine.server.logs import get_log

NFT_TABLES = ("kube-proxy", "kube-proxy-stand-in")
KEPT = ("KUBE-MARK-MASQ", "KUBE-PROXY-FIREWALL", "KUBE-FIREWALL", "KUBE-PROXY-CANARY")
"""Chains that kubelet or others may share, or that say nothing (CLN-03)."""
DEVICE = "kube-ipvs0"
_TABLES = ("nat", "filter", "mangle")
_FAMILIES = {4: "ip", 6: "ip6"}

_log = get_log(__name__)


class CleanupError(RuntimeError):
    """Something could not be removed."""


def clean_others(mode: str) -> None:
    """Before a start: the leftovers of modes that would get in the way; what fails is logged (CLN-01)."""
    steps = (_iptables, _ipvs) if mode == "nftables" else (_nftables,)
    for step in steps:
        for error in step():
            _log.error(None, "Leftovers of another mode could not be removed", mode=mode, tool=error)


def clean_all() -> None:
    """Everything of every mode; CleanupError when anything could not be removed (CLN-02)."""
    errors = [error for step in (_iptables, _ipvs, _nftables) for error in step()]
    for error in errors:
        _log.error(None, "Could not be removed", tool=error)
    if errors:
        raise CleanupError("encountered an error while tearing down rules")


def _nftables() -> list[str]:
    errors = []
    for family in _FAMILIES.values():
        listed = run(["nft", "list", "tables", family]).stdout.decode().split()
        for table in NFT_TABLES:
            if table in listed:
                errors += _try(["nft", "delete", "table", family, table])
    return errors


def _iptables() -> list[str]:
    return [e for variant in VARIANTS for family in _FAMILIES for e in _clean_variant(variant, family)]


def _clean_variant(variant: str, family: int) -> list[str]:
    """Jumps to KUBE chains, then the chains; nothing is started for a family that has neither."""
    saved = run([tool(variant, family, "save")])
    if saved.returncode or b":KUBE-" not in saved.stdout:
        return []
    text = removal(saved.stdout.decode())
    if not text:
        return []
    return _try([tool(variant, family, "restore"), *WAIT, "--noflush", "--counters"], text.encode())


def removal(saved: str) -> str:
    """Input for `iptables-restore --noflush` that removes what a proxy made of what `iptables-save` shows."""
    parts: list[str] = []
    chains: list[str] = []
    deletions: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table, chains, deletions = line, [], []
        elif line.startswith(":KUBE-") and _ours(line[1:].split()[0]):
            chains.append(line[1:].split()[0])
        elif line.startswith("-A "):
            words = line.split()
            target = words[words.index("-j") + 1] if "-j" in words else ""
            if _ours(target) and not _ours(words[1]):
                deletions.append(f"-D {line[3:]}")
        elif line == "COMMIT" and (chains or deletions):
            lines = [table, *(f":{chain} - [0:0]" for chain in chains), *deletions]
            parts += [*lines, *(f"-X {chain}" for chain in chains), "COMMIT"]
    return "\n".join(parts) + "\n" if parts else ""


def _ours(chain: str) -> bool:
    return chain.startswith("KUBE-") and chain not in KEPT and not chain.startswith("KUBE-KUBELET")


def _ipvs() -> list[str]:
    """All virtual servers, the device, then the sets, which rules of chains that are gone used."""
    errors = []
    if run(["ip", "link", "show", "dev", DEVICE]).returncode == 0:
        if run(["ipvsadm", "-Ln"]).returncode in (0, NOT_INSTALLED):
            errors += _try(["ipvsadm", "-C"])
        errors += _try(["ip", "link", "delete", "dev", DEVICE])
    listed = run(["ipset", "list", "-n"])
    if listed.returncode == 0:
        for name in listed.stdout.decode().split():
            if name.startswith("KUBE-"):
                errors += _try(["ipset", "destroy", name])
    return errors


def _try(command: list[str], stdin: bytes = b"") -> list[str]:
    done = run(command, stdin)
    return [] if done.returncode == 0 else [f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}"]
