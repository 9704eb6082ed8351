"""How long any node's rules referred to a dead endpoint."""

from __future__ import annotations

import msgspec

from engine.model import Endpoint, EndpointSlice, Name, Service, ServicePort
from engine.tracking import ENDPOINTSLICES, SERVICES, ClusterState, Observed
from harness.fleet.dead import DeadEndpoints
from harness.fleet.latency import summary

WEB = Name("shop", "web")
UP = Endpoint(bytes((10, 0, 0, 1)), True, True, False, "node-1", (), ())
DRAINING = msgspec.structs.replace(UP, ready=False, terminating=True)
DOWN = msgspec.structs.replace(DRAINING, serving=False)


def piece(*endpoints: Endpoint) -> Observed:
    value = EndpointSlice(WEB, "web-1", 4, (("http", 6, 80),), endpoints)
    return Observed(ENDPOINTSLICES, Name("shop", "web-1"), value)


def watched(*changes: Observed):
    state = ClusterState()
    state.apply(Observed(SERVICES, WEB, Service(WEB, (bytes((10, 96, 0, 1)),), (ServicePort("http", 6, 80, 0),))))
    dead = DeadEndpoints(state)
    for number, seen in enumerate(changes):
        dead.observe(number, number * 100, seen)
    return dead.found


def test_draining_endpoints_are_alive_and_unready_ones_dead():
    assert watched(piece(UP), piece(DRAINING)) == []
    [died] = watched(piece(UP), piece(DRAINING), piece(DOWN), piece())
    assert (died.change, died.endpoints, died.back) == (2, 1, None)


def test_an_endpoint_that_is_removed_or_whose_slice_is_deleted_is_dead():
    slice_gone = Observed(ENDPOINTSLICES, Name("shop", "web-1"), None)
    assert [each.change for each in watched(piece(UP), piece(), piece(UP), slice_gone)] == [1, 3]


def test_an_endpoint_that_returns_has_its_time():
    assert [each.back for each in watched(piece(UP), piece(), piece(UP))] == [200]


def test_a_service_that_is_gone_has_no_dead_endpoints():
    assert watched(piece(UP), Observed(SERVICES, WEB, None), piece()) == []


def test_percentiles_are_nearest_ranks():
    assert summary({}) is None
    assert summary({1_000_000: 99, 5_000_000: 1}) == {"p50": 1.0, "p99": 1.0, "max": 5.0}
    assert summary({1_000_000: 98, 5_000_000: 2}) == {"p50": 1.0, "p99": 5.0, "max": 5.0}
