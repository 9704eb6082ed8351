"""Only the name of a deletion counts: the object is deleted however invalid its manifest."""

from __future__ import annotations

import json
import time

import msgspec
import pytest

from engine.manifest import ManifestError
from engine.proxier import Proxier
from engine.server.api.watching import ObjectChange
from engine.server.runtime.loop import Loop
from harness.conformance.corpus.clusters import end, node, service, slice_
from harness.judge.oracle import Oracle, Settings
from harness.judge.readback.compare import compare
from harness.log.events import Event
from harness.modes import nftables
from harness.record.ledger import Ledger

from .worlds import CONFIG

SERVICE, SLICE = service("NodePort"), slice_(end("10.180.0.1"))
SAME = {"services": SERVICE, "endpointslices": SLICE, "nodes": node("z")}


def worse(manifest: dict, **fields) -> dict:
    return {**manifest, **fields}


def bare(manifest: dict) -> dict:
    """What is known of an object that is missing from a new list."""
    meta = manifest["metadata"]
    return {"metadata": {key: meta[key] for key in ("namespace", "name") if key in meta}}


BAD = [
    ("services", worse(SERVICE, spec=SERVICE["spec"] | {"clusterIP": "10.96.0.x", "clusterIPs": ["10.96.0.x"]})),
    ("services", worse(SERVICE, spec=SERVICE["spec"] | {"ports": [{"port": 70000}]})),
    ("services", worse(SERVICE, spec=7)),
    ("services", worse(SERVICE, metadata=SERVICE["metadata"] | {"labels": {"a": 1}, "annotations": []})),
    ("services", bare(SERVICE)),
    ("endpointslices", worse(SLICE, endpoints=[{"addresses": ["10.180.0.999"]}])),
    ("endpointslices", worse(SLICE, metadata=SLICE["metadata"] | {"labels": "none"})),
    ("endpointslices", bare(SLICE)),
]


def proxier_and_oracle(*events: tuple[str, str, dict]):
    """A proxier on a kernel in memory, and an oracle, that observed these; invalid ones are skipped."""
    opened, oracle = nftables.memory(), Oracle("n1", Settings(cluster_cidr="10.128.0.0/9,fd00:10:128::/48"))
    proxier = Proxier("nftables", CONFIG, opened.kernel, time.perf_counter, "n1")
    for number, (kind, resource, manifest) in enumerate(events, start=1):
        raw = json.dumps(manifest).encode()
        try:
            proxier.state.observe(kind, resource, raw)
        except ManifestError:
            assert kind == "MODIFIED"
            continue
        oracle.observe(Event(number, 0, kind, resource, msgspec.Raw(raw)))
    proxier.sync()
    return proxier, opened.view.behaviour(4), oracle.behaviour(4)


@pytest.mark.parametrize(("resource", "bad"), BAD)
def test_a_deletion_with_an_invalid_field_is_applied(resource, bad):
    start = [("ADDED", name, manifest) for name, manifest in SAME.items()]
    _, held, wanted = proxier_and_oracle(*start, ("MODIFIED", resource, bad), ("DELETED", resource, bad))
    _, good, _ = proxier_and_oracle(*start, ("DELETED", resource, SAME[resource]))
    assert held == good
    assert compare(wanted, held) == []


@pytest.mark.parametrize("last", [{"metadata": {"name": "n1"}}, worse(node("z"), status={"addresses": "none"})])
def test_a_deleted_node_keeps_its_addresses_whatever_its_last_state_says(last):
    """Its zone is gone, though (TOPO-07); the oracle says the same."""
    start = [("ADDED", name, manifest) for name, manifest in SAME.items()]
    proxier, held, wanted = proxier_and_oracle(*start, ("DELETED", "nodes", last))
    assert proxier.state.node.zone == ""
    assert held.node_addresses == wanted.node_addresses != frozenset()
    assert compare(wanted, held) == []


@pytest.mark.parametrize(("resource", "bad"), BAD)
def test_the_recorder_records_it(resource, bad):
    ledger = Ledger()
    for kind, manifest in (("ADDED", SAME[resource]), ("DELETED", bad)):
        (change,) = ledger.watched(kind, resource, json.dumps(manifest).encode())
        assert change.type == kind


def test_an_unexpected_object_does_not_affect_the_others(monkeypatch):
    """No exception ends the daemon's loop or loses the other events of a batch, even if it is no ManifestError."""
    opened = nftables.memory()
    proxier = Proxier("nftables", CONFIG, opened.kernel, time.perf_counter, "n1")
    observe = proxier.state.observe

    def observed(kind: str, resource: str, raw: bytes) -> bool:
        if b"odd" in raw:
            raise RecursionError("too deep")
        return observe(kind, resource, raw)

    monkeypatch.setattr(proxier.state, "observe", observed)

    class Observer:
        def __getattr__(self, name: str):
            return lambda *_: None

    loop = Loop(proxier, lambda: None, time.monotonic, Observer(), ("services",))
    loop._pacers.clear()
    names = ["a", "odd", "z"]
    changes = [
        ObjectChange("ADDED", json.dumps(service(name=n, ip=f"172.30.0.{i}")).encode()) for i, n in enumerate(names)
    ]
    loop.deliver("services", changes, False)
    loop.put(loop.stop)
    loop.every(0, lambda: 1 / 0)
    loop.run()
    assert {name.name for name in proxier.state.services} == {"a", "z"}
