"""Is the kernel what the events say?  Read it back and hold it against the oracle.

Two independent checks at each point: the kernel's elements mean what the oracle computes from the
events alone; and the engine's incremental plans equal plans made from scratch.
"""

from __future__ import annotations

from engine.dataplane import Dataplane
from engine.proxier import Proxier
from harness.check.compare import compare
from harness.modes.place import View
from harness.oracle import Oracle


def differences(proxier: Proxier, view: View, oracle: Oracle) -> list[str]:
    """Readable differences of every kind, empty when all agree."""
    found = []
    for family, dataplane in proxier.dataplanes.items():
        found += _from_scratch(family, dataplane, proxier)
        expected = oracle.behaviour(family)
        try:
            actual = view.behaviour(family)
        except ValueError as error:
            found.append(f"IPv{family}: the kernel's elements contradict each other: {error}")
            continue
        if actual is None:
            if dataplane.plans or expected.destinations:
                found.append(f"IPv{family}: the kernel has no table, {len(dataplane.plans)} Services expected")
            continue
        found += [f"IPv{family}: {line}" for line in compare(expected, actual)]
    return found


def _from_scratch(family: int, dataplane: Dataplane, proxier: Proxier) -> list[str]:
    scratch = Dataplane(family, proxier.config)
    scratch.update(proxier.state, sorted(proxier.state.services))
    wrong = [
        name
        for name in scratch.plans.keys() | dataplane.plans.keys()
        if scratch.plans.get(name) != dataplane.plans.get(name)
    ]
    return [f"IPv{family}: incremental plan of {name} differs from a fresh one" for name in sorted(wrong)[:10]]
