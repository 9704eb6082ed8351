"""What-if: periods, hints and the size of slices, each as a change of what was recorded."""

from __future__ import annotations

import msgspec
import pytest

from engine.model import Endpoint, EndpointSlice, Name
from engine.tracking import ENDPOINTSLICES, ClusterState, Observed, endpoints_of
from harness.fleet.cost import Cost
from harness.fleet.scenario import RECORDED, Scenario, applied, scenarios
from harness.fleet.slicing import Packer
from harness.fleet.stage import NS, FleetSettings
from harness.fleet.tape import read_tape
from harness.fleet.work import prepared, share

SECOND = Scenario(RECORDED, NS)
WEB = Name("shop", "web")
PORTS = (("http", 6, 80),)


def piece(name: str, *numbers: int, ports=PORTS) -> Observed:
    endpoints = tuple(Endpoint(bytes((10, 0, 0, n)), True, True, False, "node-1", ("a",), ()) for n in numbers)
    return Observed(ENDPOINTSLICES, Name("shop", name), EndpointSlice(WEB, name, 4, ports, endpoints))


def gone(name: str) -> Observed:
    return Observed(ENDPOINTSLICES, Name("shop", name), None)


def test_settings_are_parsed_and_wrong_ones_named():
    found = scenarios(SECOND, ["minSyncPeriod=5s,500ms", "hints=off", "slices=1000"])
    assert [(each.min_sync_period, each.hints, each.slices) for each in found] == [
        (NS, True, None), (5 * NS, True, None), (NS // 2, True, None), (NS, False, None), (NS, True, 1000),
    ]  # fmt: skip
    for wrong in ("hints=on", "slices=0", "slices=1001", "mode=ipvs", "minSyncPeriod"):
        with pytest.raises(ValueError, match="is not a"):
            scenarios(SECOND, [wrong])


def test_endpoints_stay_in_their_slice_and_fill_gaps():
    packer = Packer(2)
    first = packer.repack(piece("a", 1, 2, 3))
    assert [[e.address[3] for e in seen.value.endpoints] for _, seen in first] == [[1, 2], [3]]
    assert packer.repack(piece("a", 1, 2, 3)) == [], "nothing is new"
    [(kind, seen)] = packer.repack(piece("a", 2, 3))
    assert kind == "MODIFIED" and [e.address[3] for e in seen.value.endpoints] == [2]
    [(_, seen)] = packer.repack(piece("b", 4))
    assert [e.address[3] for e in seen.value.endpoints] == [2, 4], "the first slice with room, whatever was recorded"
    kinds = [kind for kind, _ in packer.repack(gone("a"))]
    assert kinds == ["MODIFIED", "DELETED"]
    assert [kind for kind, _ in packer.repack(gone("b"))] == ["DELETED"]


def test_a_slice_whose_ports_change_leaves_nothing_behind():
    packer = Packer(10)
    state = ClusterState()
    for seen in (piece("a", 1, 2), piece("a", 1, ports=(("http", 6, 81),)), piece("b", 7), gone("a")):
        for _, written in packer.repack(seen):
            state.apply(written)
    assert set(endpoints_of(state.slices[WEB], 4, "http", 6, None)) == {bytes((10, 0, 0, 7, 0, 80))}


def test_the_size_of_slices_changes_events_and_not_rules():
    tape = read_tape("recordings/demo.jsonl")
    recorded, varied = (
        share(prepared(tape, scenario, FleetSettings("nftables")), Cost(), ["node-0002"]).nodes[0]
        for scenario in scenarios(SECOND, ["slices=3"])
    )
    assert (recorded.operations, recorded.bytes, recorded.digest) == (varied.operations, varied.bytes, varied.digest)
    counts = [len(applied(SECOND._replace(slices=most), tape).changes) for most in (1, 3, 1000)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[1] > counts[2]


def test_without_hints_no_endpoint_has_one():
    tape = read_tape("recordings/rules.jsonl")
    values = [seen.value for seen in tape.initial]
    assert any(e.zones for v in values if isinstance(v, EndpointSlice) for e in v.endpoints)
    bare = applied(SECOND._replace(hints=False), tape)
    values = [seen.value for seen in bare.initial] + [c.observed.value for c in bare.changes if c.observed]
    assert not any(e.zones or e.nodes for v in values if isinstance(v, EndpointSlice) for e in v.endpoints)
    first, second = (msgspec.structs.asdict(x.initial[-1].value) for x in (tape, bare))
    assert first.keys() == second.keys()
