"""Removal of the rules of each mode from the kernel (CLN-01 to CLN-03); missing objects are not an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from engine.kernel.interface import KernelError
from engine.kernel.iptables.variant import VARIANTS, WAIT, tool
from engine.kernel.tools import NOT_INSTALLED, answered, run
from engine.modes import MODES
from engine.server.runtime.logs import get_log

NFT_TABLES = ("kube-proxy", "kube-proxy-shadow")
KUBELETS = ("KUBE-FIREWALL", "KUBE-KUBELET-CANARY")
"""Chains that belong to the kubelet (CLN-03)."""
SHARED = ("KUBE-MARK-MASQ", "KUBE-MARK-DROP", "KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY")
"""Chains that are kept before 1.34, since other programs might use them (CLN-03a)."""
SHARED_REMOVED_SINCE = (1, 34)
BUILT_IN = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
DEVICE = "kube-ipvs0"
_TABLES = ("nat", "filter", "mangle")
_FAMILIES = {4: "ip", 6: "ip6"}

_log = get_log(__name__)


class CleanupError(RuntimeError):
    """Something could not be removed."""


def clean_others(mode: str, version: tuple[int, int]) -> None:
    """Before start: remove the leftovers of conflicting modes; failures are logged (CLN-01)."""
    steps = (partial(_iptables, version), _ipvs) if not MODES[mode].needs_iptables else (_nftables,)
    for error in _errors(steps):
        _log.error(None, "Failed to remove leftovers of another mode", mode=mode, tool=error)


def clean_all(version: tuple[int, int]) -> None:
    """Remove the rules of every mode; CleanupError if anything could not be removed (CLN-02)."""
    errors = _errors((partial(_iptables, version), _ipvs, _nftables))
    for error in errors:
        _log.error(None, "Failed to remove rules", tool=error)
    if errors:
        raise CleanupError("encountered an error while tearing down rules")


def _errors(steps: Iterable[Callable[[], list[str]]]) -> list[str]:
    """The errors of all steps; a step ends with its first tool that hangs."""
    errors = []
    for step in steps:
        try:
            errors += step()
        except KernelError as error:
            errors.append(str(error))
    return errors


def _nftables() -> list[str]:
    errors = []
    for family in _FAMILIES.values():
        listed = answered(run(["nft", "list", "tables", family])).stdout.decode().split()
        for table in NFT_TABLES:
            if table in listed:
                errors += _try(["nft", "delete", "table", family, table])
    return errors


def _iptables(version: tuple[int, int]) -> list[str]:
    return [e for variant in VARIANTS for family in _FAMILIES for e in _clean_variant(variant, family, version)]


def _clean_variant(variant: str, family: int, version: tuple[int, int]) -> list[str]:
    """Remove jumps to KUBE chains, then the chains; nothing is run for a family that has neither."""
    saved = answered(run([tool(variant, family, "save")]))
    if saved.returncode or b":KUBE-" not in saved.stdout:
        return []
    text = removal(saved.stdout.decode(), version)
    if not text:
        return []
    return _try([tool(variant, family, "restore"), *WAIT, "--noflush", "--counters"], text.encode())


def removal(saved: str, version: tuple[int, int]) -> str:
    """Input for `iptables-restore --noflush` that removes a proxy's rules from the output of `iptables-save`.

    A chain that rules of others still jump to cannot be deleted: it is flushed and kept.
    """
    parts: list[str] = []
    table = ""
    lines: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table, lines = line, []
        elif line == "COMMIT":
            parts += _table_removal(table, lines, version)
        else:
            lines.append(line)
    return "\n".join(parts) + "\n" if parts else ""


def _table_removal(name: str, lines: list[str], version: tuple[int, int]) -> list[str]:
    chains = [chain for line in lines if line[:1] == ":" and _ours(chain := line[1:].split()[0])]
    kept = {*KUBELETS, *(SHARED if version < SHARED_REMOVED_SINCE else ())}
    jumps, foreign = [], set()
    for line in lines:
        words = line.split()
        target = words[words.index("-j") + 1] if line.startswith("-A ") and "-j" in words else ""
        if not _ours(target) or _ours(words[1]):
            continue
        if words[1] in BUILT_IN and not target.startswith("KUBE-MARK-"):
            jumps.append(f"-D {line[3:]}")
        else:
            foreign.add(target)
    emptied = [chain for chain in chains if chain not in kept]
    if not emptied and not jumps:
        return []
    deleted = [chain for chain in emptied if chain not in foreign]
    return [name, *(f":{chain} - [0:0]" for chain in emptied), *jumps, *(f"-X {c}" for c in deleted), "COMMIT"]


def _ours(chain: str) -> bool:
    return chain.startswith("KUBE-") and chain not in KUBELETS


def _ipvs() -> list[str]:
    """Remove all virtual servers, the device, then the sets, which only removed rules referenced."""
    errors = []
    if answered(run(["ip", "link", "show", "dev", DEVICE])).returncode == 0:
        if answered(run(["ipvsadm", "-Ln"])).returncode in (0, NOT_INSTALLED):
            errors += _try(["ipvsadm", "-C"])
        errors += _try(["ip", "link", "delete", "dev", DEVICE])
    listed = answered(run(["ipset", "list", "-n"]))
    if listed.returncode == 0:
        for name in listed.stdout.decode().split():
            if name.startswith("KUBE-"):
                errors += _try(["ipset", "destroy", name])
    return errors


def _try(command: list[str], stdin: bytes = b"") -> list[str]:
    done = answered(run(command, stdin))
    return [] if done.returncode == 0 else [f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}"]
