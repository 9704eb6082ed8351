"""Tries the required features of iptables in an unreferenced chain, and reports those that are missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from engine.kernel.iptables.variant import LOCKED, WAIT, tool
from engine.kernel.tools import Run, answered, first_line

_CHAIN = "KUBE-PROXY-PROBE"
_FEATURES = {
    "comment": ("nat", '-m comment --comment "probe" -j RETURN'),
    "statistic": ("nat", "-m statistic --mode random --probability 0.5 -j RETURN"),
    "addrtype": ("nat", "-m addrtype --dst-type LOCAL -j RETURN"),
    "mark": ("nat", "-m mark ! --mark 0x4000/0x4000 -j RETURN"),
    "MARK": ("nat", "-j MARK --set-xmark 0x4000/0x4000"),
    "DNAT": ("nat", "-p tcp -m tcp -j DNAT --to-destination {end}"),
    "MASQUERADE": ("nat", "-j MASQUERADE --random-fully"),
    "conntrack": ("filter", "-m conntrack --ctstate NEW -j RETURN"),
    "REJECT": ("filter", "-j REJECT"),
}
"""By name, the table and a rule that needs it.  `recent` is not included: only Services with affinity need it."""

_ENDS = {4: "192.0.2.1:80", 6: "[2001:db8::1]:80"}


def missing(run: Run, variant: str, families: Collection[int]) -> str | None:
    """The missing features in one line, or None.  KernelError if a tool hangs."""
    found = (lacking(run, tool(variant, family), family, _FEATURES) for family in families)
    return next((words for words in found if words), None)


def lacking(run: Run, command: str, family: int, features: Mapping[str, tuple[str, str]]) -> str | None:
    """The features that `command` (`iptables-nft` and the like) or the kernel lacks, in one line, or None."""
    refused = _tried(run, command, family, features)
    if not refused:
        return None
    alone = ((name, _tried(run, command, family, {name: each})) for name, each in features.items())
    names = ", ".join(name for name, words in alone if words) or "something"
    return f"{command} or this kernel lacks {names}: {refused}"


def _tried(run: Run, tool: str, family: int, features: Mapping[str, tuple[str, str]]) -> str:
    """The tool's error when rules are added and removed; empty if it accepts them."""
    command = [f"{tool}-restore", *WAIT, "--noflush"]
    made, gone = [], []
    for table in sorted({table for table, _ in features.values()}):
        rules = [f"-A {_CHAIN} {rule.format(end=_ENDS[family])}" for name, rule in features.values() if name == table]
        made += [f"*{table}", f":{_CHAIN} - [0:0]", *rules, "COMMIT"]
        gone += [f"*{table}", f":{_CHAIN} - [0:0]", f"-X {_CHAIN}", "COMMIT"]
    tried = answered(run(command, _lines(made)))
    taken_away = answered(run(command, _lines(gone)))  # tables before the refused one may have been changed
    # A lock held by another program says nothing about missing features.
    fine = (0, LOCKED) if tool.endswith("-legacy") else (0,)
    failed = next((done for done in (tried, taken_away) if done.returncode not in fine), None)
    return first_line(failed) if failed else ""


def _lines(lines: list[str]) -> bytes:
    return "\n".join([*lines, ""]).encode()
