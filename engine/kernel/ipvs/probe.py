"""Probes the features that mode ipvs needs besides IP_VS, and reports missing ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from engine.backends.ipvs.sets import TYPES, create_line
from engine.kernel.interface import KernelError
from engine.kernel.iptables.probe import lacking
from engine.kernel.links import Dummy
from engine.kernel.netlink import Connection
from engine.kernel.tools import Run, answered, first_line

_NAME = "kube-probe0"
_SETS = {kind: (name, f"KUBE-PROBE-{number}") for number, (name, kind) in enumerate(TYPES.items())}
"""By set type, a set of that type and its name during the probe."""
_FEATURES = {
    "comment": ("nat", '-m comment --comment "probe" -j RETURN'),
    "set": ("nat", f"-m set --match-set {_SETS['hash:ip,port'][1]} dst,dst -j RETURN"),
    "addrtype": ("nat", "-m addrtype --dst-type LOCAL -j RETURN"),
    "physdev": ("nat", "-m physdev ! --physdev-is-in -j RETURN"),
    "mark": ("nat", "-m mark ! --mark 0x4000/0x4000 -j RETURN"),
    "MARK": ("nat", "-j MARK --set-xmark 0x4000/0x4000"),
    "MASQUERADE": ("nat", "-j MASQUERADE --random-fully"),
    "conntrack": ("filter", "-m conntrack --ctstate NEW -j RETURN"),
    "REJECT": ("filter", "-j REJECT"),
}


def missing(run: Run, tools: Mapping[int, str], route: Connection, families: Collection[int]) -> str | None:
    """The missing features in one line, None if there are none.  `tools`: name of iptables by family."""
    device = Dummy(route, _NAME)
    try:
        device.make()
        device.remove()
    except KernelError as error:
        return f"can't use the IPVS proxier: {error}"
    for family in families:
        if found := _sets(run, family) or _rules(run, tools[family], family):
            return f"can't use the IPVS proxier: {found}"
    return None


def _sets(run: Run, family: int) -> str | None:
    refused = {kind: words for kind in _SETS if (words := _made(run, family, kind))}
    return f"ipset or this kernel lacks sets {', '.join(refused)}: {next(iter(refused.values()))}" if refused else None


def _rules(run: Run, tool: str, family: int) -> str | None:
    """Probe the rules; those that match a set need one to exist."""
    kind = "hash:ip,port"
    run(["ipset", "restore"], f"{_line(family, kind)}\n".encode())
    try:
        return lacking(run, tool, family, _FEATURES)
    finally:
        _destroy(run, kind)


def _line(family: int, kind: str) -> str:
    name, called = _SETS[kind]
    return create_line(family, name, called)


def _made(run: Run, family: int, kind: str) -> str:
    """Create and destroy a set of this type; returns ipset's error, empty on success."""
    done = answered(run(["ipset", "restore"], f"{_line(family, kind)}\n".encode()))
    _destroy(run, kind)
    return first_line(done) if done.returncode else ""


def _destroy(run: Run, kind: str) -> None:
    run(["ipset", "destroy", _SETS[kind][1]], b"")
