"""Correct rules for addresses that several Services claim: the judge reports no difference in any mode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.conformance.corpus.clusters import end, node, service, slice_
from harness.judge.verify import readback
from harness.modes import MODES, mode_of

from .held import RICH, program

INPUTS = sorted((Path(__file__).parent / "data").glob("*.json"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", [*map(str, INPUTS), RICH], ids=lambda path: Path(path).stem)
def test_no_false_differences(mode, path):
    programmed = program(mode_of(mode).memory(), mode, path)
    found = readback(programmed.view, programmed.oracle, mode)
    assert found.differences == [] and sum(found.checked.values()) > 0
    assert found.unchecked or mode == "ipvs", "a kernel that only remembers has no rules or sysctls to look at"


POLICIES, PLACES = ("Cluster", "Local"), ("nowhere", "elsewhere", "here")
RIVALS = [f"{policy} {place}" for policy in POLICIES for place in PLACES]


def rival(name: str, kind: str, number: int) -> list[dict]:
    """A Service of this policy, with its endpoint at this place, that wants an external address."""
    policy, place = kind.split()
    spec = service(name=name, ip=f"172.30.9.{number}", externalIPs=["192.0.2.9"], externalTrafficPolicy=policy)
    ends = {"nowhere": [], "elsewhere": [end(f"10.0.9.{number}", "n2")], "here": [end(f"10.0.9.{number}", "n1")]}[place]
    return [spec, slice_(*ends, of=name, name=f"{name}-1")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("first", RIVALS)
def test_an_address_that_two_services_want_has_the_endpoints_of_one(mode, first, tmp_path):
    """Where that is the proxy's choice of the first that has any: of one as a whole, not of a mixture."""
    for second in RIVALS:
        path = tmp_path / f"{second}.json"
        items = [node(), *rival("a", first, 1), *rival("b", second, 2)]
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        programmed = program(mode_of(mode).memory(), mode, str(path))
        assert readback(programmed.view, programmed.oracle, mode).differences == [], second


@pytest.mark.parametrize("mode", MODES)
def test_unreadable_state_is_a_difference(mode):
    programmed = program(mode_of(mode).memory(), mode, RICH)

    class Broken:
        def check(self, family, expected, settings):
            raise KeyError("no such chain")

    assert readback(Broken(), programmed.oracle, mode).differences == [
        f"IPv{family}: the kernel's state cannot be read: 'no such chain'" for family in (4, 6)
    ]
