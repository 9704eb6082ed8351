"""Is the kernel what the events say?  Read it back and hold it against the oracle.

Independent checks: what the kernel holds means what the oracle computes from the events alone; the
engine's incremental plans equal plans made from scratch; and, where the kernel is a throwaway one,
connections to a sample of Services arrive where the oracle says.
"""

from __future__ import annotations

from engine.dataplane import Dataplane
from engine.proxier import Proxier
from harness.check.compare import compare
from harness.check.probe import probe
from harness.modes.place import Place, View
from harness.oracle import Oracle


def differences(proxier: Proxier, view: View, oracle: Oracle, mode: str) -> list[str]:
    """Readable differences of every kind, empty when all agree."""
    found = []
    for family, dataplane in proxier.dataplanes.items():
        found += _from_scratch(family, dataplane, proxier)
        expected = oracle.behaviour(family, mode)
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


def connections(proxier: Proxier, place: Place, oracle: Oracle, mode: str) -> tuple[int, list[str]]:
    """How many connections were tried with real packets, and which went elsewhere."""
    tried, found = 0, []
    for family in proxier.dataplanes:
        count, lines = probe(place.make_socket, place.run, oracle.behaviour(family, mode))
        tried += count
        found += lines
    return tried, found


def _from_scratch(family: int, dataplane: Dataplane, proxier: Proxier) -> list[str]:
    scratch = Dataplane(family, proxier.config)
    scratch.update(proxier.state, sorted(proxier.state.services))
    wrong = [
        name
        for name in scratch.plans.keys() | dataplane.plans.keys()
        if scratch.plans.get(name) != dataplane.plans.get(name)
    ]
    return [f"IPv{family}: incremental plan of {name} differs from a fresh one" for name in sorted(wrong)[:10]]
