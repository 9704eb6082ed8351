"""Verifies kernel state against the oracle.

Independent checks: the state read back from the kernel has the behaviour that the oracle computes from events alone;
the engine's incremental plans equal plans made from scratch; and, in a throwaway kernel, connections to a sample of
Services arrive where the oracle expects them.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import msgspec

from engine.dataplane import Dataplane
from engine.model import Name
from engine.proxier import Proxier
from harness.judge.behaviour import Behaviour
from harness.judge.oracle import Oracle
from harness.judge.oracle.scene import scene
from harness.judge.readback.check_result import CheckResult
from harness.judge.readback.probe import probe
from harness.judge.verify import readback
from harness.modes.opened import ModeView
from harness.places.place import Place


def check_kernel(
    proxier: Proxier, view: ModeView, oracle: Oracle, mode: str, changed: Set[Name] | None = None
) -> CheckResult:
    """Compare the kernel's state with the oracle, and the engine's plans with plans made from scratch.

    With `changed`, only what changed since the last call, and the plans of these Services.
    """
    found = readback(view, oracle, mode, proxier.dataplanes, whole=changed is None)
    names = proxier.state.services.keys() if changed is None else changed & proxier.state.services.keys()
    plans = [
        line
        for family, each in proxier.dataplanes.items()
        for line in _from_scratch(family, each, proxier, names, each.plans.keys() if changed is None else names)
    ]
    return msgspec.structs.replace(found, differences=plans + found.differences)


def connections(place: Place, oracle: Oracle, behaviours: Mapping[int, Behaviour]) -> tuple[int, list[str]]:
    """The number of connections attempted with real packets, and those that went elsewhere."""
    tried, found = 0, []
    for family, behaviour in behaviours.items():
        count, lines = probe(place.make_socket, place.run, behaviour, frozenset(scene(oracle, family).node))
        tried += count
        found += lines
    return tried, found


def _from_scratch(
    family: int, dataplane: Dataplane, proxier: Proxier, names: Set[Name], compared: Set[Name]
) -> list[str]:
    scratch = Dataplane(family, proxier.config)
    scratch.update(proxier.state, sorted(names))
    wrong = [name for name in scratch.plans.keys() | compared if scratch.plans.get(name) != dataplane.plans.get(name)]
    return [
        f"IPv{family}: incremental plan of {name} differs from one made from scratch" for name in sorted(wrong)[:10]
    ]
