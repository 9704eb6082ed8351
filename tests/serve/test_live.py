"""Live state: writes as the API does them, seen alike by code in the process and by clients."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.apiserver import StatusError
from harness.apiserver.journal import Journal
from harness.apiserver.live import LiveStore
from harness.log import RecordingError, open_source
from harness.log.state import State, folded
from tests.serve.conftest import ask

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
PROTOBUF = "application/vnd.kubernetes.protobuf"
JSON_PATCH = "application/json-patch+json"
POD = {
    "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
    "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 7},
}
PODS = "/api/v1/namespaces/shop/pods"


@pytest.fixture
def store():
    """A store with a clock that stands and uids that count."""
    numbers = iter(range(1000))
    return LiveStore(clock=lambda: datetime(2030, 1, 1, tzinfo=UTC), new_uid=lambda: f"uid-{next(numbers)}")


def test_a_created_object_gets_its_metadata(store):
    made = store.apply("pods", POD)
    marks = {"uid": "uid-0", "creationTimestamp": "2030-01-01T00:00:00Z", "generation": 1, "resourceVersion": "2"}
    assert made["metadata"] == POD["metadata"] | marks
    assert (made["apiVersion"], made["kind"]) == ("v1", "Pod")
    assert store.get("namespaces", "shop")["status"] == {"phase": "Active"}


def test_generation_counts_changes_of_the_spec(store):
    store.apply("pods", POD)
    assert store.apply("pods", POD | {"status": {"phase": "Running"}})["metadata"]["generation"] == 1
    assert store.apply("pods", POD | {"spec": {"nodeName": "node-2"}})["metadata"]["generation"] == 2


def test_applying_the_same_changes_nothing(store):
    first = store.apply("pods", POD)
    assert store.apply("pods", POD) == first
    assert store.collection("pods").revision == int(first["metadata"]["resourceVersion"])


def test_a_stale_update_conflicts(store):
    old = store.apply("services", {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"type": "ClusterIP"}})
    new = store.update("services", old | {"spec": {"type": "NodePort"}})
    with pytest.raises(StatusError) as stale:
        store.update("services", old | {"spec": {"type": "LoadBalancer"}})
    assert stale.value.code == 409 and stale.value.reason == "Conflict"
    assert store.get("services", "web", "shop") == new


def test_status_and_spec_are_written_separately(store):
    pod = store.apply("pods", POD | {"status": {"phase": "Pending"}})
    changed = pod | {"spec": {"nodeName": "other"}, "status": {"phase": "Running"}}
    assert store.update("pods", changed)["status"] == {"phase": "Pending"}
    pod = store.get("pods", "web-1", "shop")
    done = store.update("pods", pod | {"spec": {}, "status": {"phase": "Running"}}, "status")
    assert done["spec"] == {"nodeName": "other"} and done["status"] == {"phase": "Running"}


def test_a_pod_on_a_node_ends_gracefully(store):
    store.apply("pods", POD)
    waiting = store.delete("pods", "web-1", "shop")
    assert waiting["metadata"]["deletionTimestamp"] == "2030-01-01T00:00:07Z"
    assert waiting["metadata"]["deletionGracePeriodSeconds"] == 7
    revision = store.collection("pods").revision
    store.delete("pods", "web-1", "shop")
    assert store.collection("pods").revision == revision, "a longer or equal wait changes nothing"
    assert store.delete("pods", "web-1", "shop", 2)["metadata"]["deletionGracePeriodSeconds"] == 2
    assert store.delete("pods", "web-1", "shop", 0) is None
    with pytest.raises(StatusError, match='pods "web-1" not found'):
        store.get("pods", "web-1", "shop")


def test_an_unscheduled_pod_is_deleted_at_once(store):
    store.apply("pods", POD | {"spec": {}})
    assert store.delete("pods", "web-1", "shop") is None
    store.apply("services", {"metadata": {"name": "web"}})
    assert store.delete("services", "web", "default") is None


def test_finalizers_hold_an_object_until_they_are_removed(store):
    store.apply("services", {"metadata": {"name": "web", "finalizers": ["a/b"]}})
    waiting = store.delete("services", "web", "default")
    assert waiting["metadata"]["deletionTimestamp"]
    waiting["metadata"]["finalizers"] = []
    store.update("services", waiting)
    assert store.list("services") == []


def test_watch_blocks_until_something_comes(store):
    timer = threading.Timer(0.1, lambda: store.apply("pods", POD))
    timer.start()
    change = next(store.watch("pods", timeout=10))
    timer.join()
    assert (change.type, change.resource, change.manifest()["metadata"]["name"]) == ("ADDED", "pods", "web-1")
    assert list(store.watch("pods", timeout=0)) == []
    assert [c.type for c in store.watch("pods", since=1, timeout=0)] == ["ADDED"]


def test_concurrent_writers_lose_no_update(api):
    """While the API goes down and comes back, and clients ask."""

    def write(number: int) -> None:
        for name in range(50):
            api.store.apply("pods", POD | {"metadata": {"name": f"p{number}-{name}", "namespace": "shop"}})
            api.store.patch("nodes", "n", "", lambda node: node | {"spec": {"count": node["spec"]["count"] + 1}})

    api.store.apply("nodes", {"metadata": {"name": "n"}, "spec": {"count": 0}})
    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert ask(f"{api.url}/api/v1/pods").code == 200
        api.stop()
        api.start()
    assert api.store.get("nodes", "n")["spec"] == {"count": 200}
    assert len(ask(f"{api.url}/api/v1/pods").body["items"]) == 200
    revisions = [change.revision for change in api.store.changes("pods", 1)]
    assert len(revisions) == 200 and revisions == sorted(set(revisions))


def test_unknown_resources_are_named(store):
    with pytest.raises(KeyError, match="no resource 'gadgets'"):
        store.apply("gadgets", {"metadata": {"name": "x"}})
    with pytest.raises(StatusError, match="name or generateName is required"):
        store.apply("pods", {"metadata": {}})


def test_the_journal_is_a_recording_of_all_that_happened(store, tmp_path):
    store.apply("nodes", {"metadata": {"name": "node-1"}})
    path = tmp_path / "journal.jsonl"
    with Journal(path, store, {"name": "lab"}) as journal:
        store.apply("pods", POD)
        journal.mark("FAULT", "pods", {"fault": "pod-kill", "target": "shop/web-1"})
        store.delete("pods", "web-1", "shop", 0)
        store.apply("services", {"metadata": {"name": "web", "namespace": "shop"}})
        store.create("events", {"metadata": {"name": "left-out"}})
    state = State()
    with open_source(path) as recording:
        reported = [(e.type, e.resource) for e in folded(recording, state) if e.type != "BOOKMARK"]
    assert recording.header.cluster == {"name": "lab"}
    wanted = ["ADDED nodes", "ADDED pods", "FAULT pods", "DELETED pods", "ADDED services"]
    assert [" ".join(each) for each in reported] == wanted
    assert set(state.objects) == {("nodes", "", "node-1"), ("services", "shop", "web")}


def test_a_journal_never_overwrites_another(store, tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path, store), pytest.raises(RecordingError, match="is being written"), Journal(path, store):
        pass
    before = path.read_bytes()
    with pytest.raises(RecordingError, match="already contains a recording"), Journal(path, store):
        pass
    assert path.read_bytes() == before


def test_clients_write_and_everyone_sees_it(api):
    url = api.url + PODS
    created = ask(url, "POST", POD | {"kind": "Pod", "apiVersion": "v1"})
    assert created.code == 201 and ask(url, "POST", POD).body["reason"] == "AlreadyExists"
    stale = created.body
    patched = ask(f"{url}/web-1", "PATCH", {"metadata": {"labels": {"a": "b", "app": None}}}, Content_Type=MERGE)
    assert patched.body["metadata"]["labels"] == {"a": "b"}
    assert ask(f"{url}/web-1", "PUT", stale).body["reason"] == "Conflict"
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert ask(f"{url}/web-1/status", "PATCH", ready, Content_Type=STRATEGIC).body["status"] == ready["status"]
    test = [{"op": "test", "path": "/spec/nodeName", "value": "other"}]
    assert ask(f"{url}/web-1", "PATCH", test, Content_Type=JSON_PATCH).code == 422
    move = [{"op": "replace", "path": "/spec/nodeName", "value": "node-2"}]
    assert ask(f"{url}/web-1", "PATCH", move, Content_Type=JSON_PATCH).body["metadata"]["generation"] == 2
    assert api.store.get("pods", "web-1", "shop")["spec"]["nodeName"] == "node-2"


def test_evictions_and_deletes(api):
    api.store.apply("pods", POD)
    eviction = {"metadata": {"name": "web-1"}, "deleteOptions": {"gracePeriodSeconds": 3}}
    assert ask(f"{api.url}{PODS}/web-1/eviction", "POST", eviction).code == 201
    assert api.store.get("pods", "web-1", "shop")["metadata"]["deletionGracePeriodSeconds"] == 3
    wrong = {"preconditions": {"uid": "another"}}
    assert ask(f"{api.url}{PODS}/web-1", "DELETE", wrong).body["reason"] == "Conflict"
    gone = ask(f"{api.url}{PODS}/web-1?gracePeriodSeconds=0", "DELETE")
    assert gone.body["metadata"]["name"] == "web-1" and api.store.list("pods") == []
    for name, app in (("a", "x"), ("b", "y")):
        api.store.apply("services", {"metadata": {"name": name, "namespace": "shop", "labels": {"app": app}}})
    left = ask(f"{api.url}/api/v1/namespaces/shop/services?labelSelector=app%3Dx", "DELETE")
    assert [item["metadata"]["name"] for item in left.body["items"]] == ["a"]
    assert [s["metadata"]["name"] for s in api.store.list("services")] == ["b"]


ODD_WRITES = {
    "no JSON": ("POST", PODS, b"{", {}, 400, "not JSON"),
    "no object": ("POST", PODS, b"[]", {}, 400, "not a Pod"),
    "no name": ("POST", PODS, {"metadata": {}}, {}, 422, "name or generateName is required"),
    "another kind": ("POST", PODS, {"kind": "Node", "metadata": {"name": "x"}}, {}, 400, 'the object is a "Node"'),
    "another namespace": ("POST", PODS, {"metadata": {"name": "x", "namespace": "y"}}, {}, 400, "namespace of"),
    "absent": ("PUT", f"{PODS}/none", {"metadata": {}}, {}, 404, "not found"),
    "another name": ("PUT", f"{PODS}/web-1", {"metadata": {"name": "x"}}, {}, 400, "name of the provided"),
    "form": ("POST", PODS, b"x", {"Content-Type": "text/plain"}, 415, "unknown format"),
    "patch form": ("PATCH", f"{PODS}/web-1", {}, {}, 415, "merge-patch"),
    "patch of no object": ("PATCH", f"{PODS}/web-1", [], {"Content-Type": MERGE}, 400, "not a JSON object"),
    "patch of a missing path": (
        "PATCH", f"{PODS}/web-1", [{"op": "remove", "path": "/spec/none"}], {"Content-Type": JSON_PATCH}, 422,
        "does not apply",
    ),
    "patch without operations": (
        "PATCH", f"{PODS}/web-1", {"spec": {}}, {"Content-Type": JSON_PATCH}, 400, "a list of operations",
    ),
    "rename by patch": ("PATCH", f"{PODS}/web-1", {"metadata": {"name": "x"}}, {"Content-Type": MERGE}, 400, "name"),
    "labels that are no map": ("POST", PODS, {"metadata": {"name": "x", "labels": ["a"]}}, {}, 400, "metadata.labels"),
    "spec that is no object": ("POST", PODS, {"metadata": {"name": "x"}, "spec": 1}, {}, 400, "$.spec"),
    "options": ("DELETE", f"{PODS}/web-1", {"gracePeriodSeconds": "x"}, {}, 400, "not DeleteOptions"),
    "post on an object": ("POST", f"{PODS}/web-1", {}, {}, 405, "does not allow"),
    "absent protobuf kind": (
        "POST", PODS, b"k8s\x00\n\x09\n\x02v1\x12\x03Pod", {"Content-Type": PROTOBUF}, 415, "unknown",
    ),
    "cut protobuf": ("POST", PODS, b"k8s\x00\n\x09", {"Content-Type": PROTOBUF}, 400, "cut off"),
}  # fmt: skip


@pytest.fixture(scope="module")
def with_pod():
    """Live state with one pod, which every test leaves there."""
    from harness.apiserver import LiveApi

    with LiveApi() as live:
        live.store.apply("pods", POD)
        yield live


@pytest.mark.parametrize("method, path, body, headers, code, said", ODD_WRITES.values(), ids=ODD_WRITES.keys())
def test_an_invalid_write_is_rejected(with_pod, method, path, body, headers, code, said):
    before = with_pod.store.list("pods")
    answer = ask(with_pod.url + path, method, body, **headers)
    assert answer.code == code and said in answer.body["message"] and answer.body["kind"] == "Status"
    assert with_pod.store.list("pods") == before


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.sampled_from(["", "web-1", "a", "$patch", "delete"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "name", "namespace", "labels", "spec", "status", "containers", "finalizers", "op"]
            )
            | st.sampled_from(
                ["path", "value", "$patch", "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers"]
            )
            | st.sampled_from(
                ["nodeName", "conditions", "type", "gracePeriodSeconds", "deleteOptions", "preconditions"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
    path=st.sampled_from([PODS, f"{PODS}/web-1", f"{PODS}/web-1/status", f"{PODS}/web-1/eviction", "/api/v1/nodes/a"]),
    form=st.sampled_from(["application/json", "application/yaml", MERGE, STRATEGIC, JSON_PATCH, PROTOBUF]),
    body=values | st.lists(values, max_size=2) | st.fixed_dictionaries({"metadata": values, "spec": values}),
)
def test_no_request_body_causes_a_server_error(with_pod, method, path, form, body):
    answer = ask(with_pod.url + path, method, body, Content_Type=form)
    assert answer.code < 500
    assert isinstance(answer.body, dict) and answer.body.get("kind")
    with_pod.store.apply("pods", POD)
    shown = ask(with_pod.url + "/api/v1/pods", Accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert shown.code == 200
