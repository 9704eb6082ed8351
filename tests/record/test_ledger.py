"""For any lists and watches, in any order: the fold of the recording is the last observed state."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.kube.resources import BY_NAME
from harness.kube.scope import ResourceScope
from harness.log.events import RESOURCES
from harness.record.ledger import Ledger, cleaned
from harness.record.live import troubles
from harness.record.watcher import WatchHealth

NAMES = ("a", "b", "c")
NAMESPACES = ("x", "y")


def manifest(namespace: str, name: str, version: int, uid: str = "u1", listed: bool = False) -> bytes:
    metadata = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    head = {} if listed else {"kind": "Service", "apiVersion": "v1"}
    return json.dumps(head | {"metadata": metadata, "spec": {"v": version}}).encode()


objects = st.tuples(
    st.sampled_from(NAMESPACES), st.sampled_from(NAMES), st.integers(1, 5), st.sampled_from(("u1", "u2"))
)
watched = st.tuples(st.sampled_from(("ADDED", "MODIFIED", "DELETED")), objects)
listed = st.tuples(st.sampled_from(("", *NAMESPACES)), st.lists(objects, max_size=4, unique_by=lambda o: o[:2]))


def fold(world: dict, changes) -> None:
    """Apply changes strictly: each must fit what is there."""
    for change in changes:
        decoded = msgspec.json.decode(change.object)
        key = decoded["metadata"]["namespace"], decoded["metadata"]["name"]
        assert (key in world) == (change.type != "ADDED"), f"{change.type} of {key}"
        if change.type == "DELETED":
            del world[key]
        else:
            assert world.get(key) != decoded, "a change that changes nothing"
            world[key] = decoded


def plain(decoded: dict) -> dict:
    return {"kind": "Service", "apiVersion": "v1"} | decoded


@given(st.lists(watched | listed, max_size=12))
def test_the_fold_is_the_last_observed_state(messages):
    ledger, world, truth = Ledger(), {}, {}
    for what, said in messages:
        if isinstance(said, list):
            inside = [o for o in said if what in ("", o[0])]
            fold(world, ledger.listed(ResourceScope("services", what), [manifest(*o, listed=True) for o in inside]))
            truth = {key: value for key, value in truth.items() if what not in ("", key[0])}
            truth |= {o[:2]: plain(json.loads(manifest(*o))) for o in inside}
        else:
            fold(world, ledger.watched(what, "services", manifest(*said)))
            truth.pop(said[:2], None)
            if what != "DELETED":
                truth[said[:2]] = plain(json.loads(manifest(*said)))
        assert world == truth


@given(st.lists(watched, max_size=12))
def test_a_restored_ledger_continues_like_the_original(messages):
    first, again = Ledger(), Ledger()
    for kind, said in messages:
        for change in first.watched(kind, "services", manifest(*said)):
            again.recall(change.type, change.resource, change.object)
    news = [manifest("x", "a", 3), manifest("y", "b", 4)]
    assert list(first.listed(ResourceScope("services"), news)) == list(again.listed(ResourceScope("services"), news))


def test_a_list_and_a_watch_write_the_same_object_the_same_way():
    ledger = Ledger()
    assert len(list(ledger.listed(ResourceScope("services"), [manifest("x", "a", 1, listed=True)]))) == 1
    assert list(ledger.watched("ADDED", "services", manifest("x", "a", 1))) == []


def test_an_object_replaced_unseen_is_deleted_first():
    ledger = Ledger()
    list(ledger.watched("ADDED", "services", manifest("x", "a", 1, "u1")))
    changes = list(ledger.listed(ResourceScope("services"), [manifest("x", "a", 2, "u2")]))
    assert [change.type for change in changes] == ["DELETED", "ADDED"]


def test_managed_fields_are_dropped_and_all_else_stays_unchanged():
    original = '{"kind":"Service","metadata":{"name":"a","managedFields":[{"f":{}}],"labels":{"n":"1"}},"x":1.50e3}'
    kept = '{"kind":"Service","apiVersion":"v1","metadata":{"name":"a","labels":{"n":"1"}},"x":1.50e3}'
    assert json.loads(cleaned("services", original.encode())) == json.loads(kept)
    assert b"1.50e3}" in cleaned("services", original.encode())


@pytest.mark.parametrize("resource", RESOURCES)
def test_every_resource_has_its_kind(resource):
    version, kind = BY_NAME[resource].api_version, BY_NAME[resource].kind
    assert json.loads(cleaned(resource, b'{"metadata":{"name":"a"}}')) == {
        "kind": kind, "apiVersion": version, "metadata": {"name": "a"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "bad", [b"", b"[]", b'{"metadata":{}}', b'{"metadata":{"name":""}}', b'{"metadata":[]}', b"\xff"]
)
def test_an_invalid_manifest_is_reported(bad):
    with pytest.raises(ValueError):
        list(Ledger().watched("ADDED", "services", bad))


def test_a_repeated_reason_is_reported_once():
    healths = [
        WatchHealth(ResourceScope("nodes")),
        WatchHealth(ResourceScope("services", "shop")),
        WatchHealth(ResourceScope("pods")),
    ]
    healths[0].trouble = healths[1].trouble = "connection refused"
    assert troubles(healths) == ["nodes, services/shop listing: connection refused"]
