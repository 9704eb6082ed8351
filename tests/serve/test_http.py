"""Over HTTP: errors as the API's, authentication, representations, clean ends of streams."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request

import pytest

from harness.apiserver import LiveApi
from tests.serve.conftest import DEMO, ask

pytestmark = pytest.mark.xdist_group("served")

SVC = "/api/v1/namespaces/shop/services"
REFUSALS = {
    "absent object": ("GET", f"{SVC}/none", {}, 404, "NotFound", 'services "none" not found'),
    "absent object of a group": (
        "GET", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/none", {}, 404, "NotFound",
        'endpointslices.discovery.k8s.io "none" not found',
    ),
    "absent subresource": ("GET", f"{SVC}/web/proxy", {}, 404, "NotFound", "could not find the requested resource"),
    "create": ("POST", SVC, {}, 405, "MethodNotAllowed", "does not allow this method"),
    "update": ("PUT", f"{SVC}/web", {}, 405, "MethodNotAllowed", "does not allow this method"),
    "patch": ("PATCH", f"{SVC}/web", {}, 405, "MethodNotAllowed", "does not allow this method"),
    "delete": ("DELETE", f"{SVC}/web", {}, 405, "MethodNotAllowed", "does not allow this method"),
    "protobuf alone": (
        "GET", "/api/v1/services", {"Accept": "application/vnd.kubernetes.protobuf"}, 406, "NotAcceptable",
        "media types",
    ),
    "a document as protobuf alone": (
        "GET", "/openapi/v3/api/v1", {"Accept": "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"}, 406,
        "NotAcceptable", "media types",
    ),
    "odd label selector": ("GET", "/api/v1/services?labelSelector=a%20in", {}, 400, "BadRequest", "unable to parse"),
    "odd field selector": (
        "GET", "/api/v1/services?fieldSelector=spec.x%3D1", {}, 400, "BadRequest", "field label not supported: spec.x",
    ),
    "odd resourceVersion": ("GET", "/api/v1/services?resourceVersion=x", {}, 400, "BadRequest", "invalid syntax"),
    "resourceVersion to come": (
        "GET", "/api/v1/services?resourceVersion=99999999", {}, 504, "Timeout", "Too large resource version: 99999999",
    ),
    "old exact resourceVersion": (
        "GET", "/api/v1/services?resourceVersion=1&resourceVersionMatch=Exact", {}, 410, "Expired",
        "too old resource version",
    ),
    "match without version": (
        "GET", "/api/v1/services?resourceVersionMatch=Exact", {}, 422, "Invalid", "forbidden unless resourceVersion",
    ),
    "stream of the list without match": (
        "GET", "/api/v1/services?watch=1&sendInitialEvents=true", {}, 422, "Invalid",
        "requires setting resourceVersionMatch",
    ),
    "odd token": ("GET", "/api/v1/services?limit=1&continue=x", {}, 400, "BadRequest", "continue key is not valid"),
}  # fmt: skip


@pytest.fixture(scope="module")
def demo():
    """The demo recording at its start, read-only."""
    from tests.serve.conftest import Served

    served = Served(DEMO, "--start-paused")
    yield served
    code, errors = served.stop()
    assert (code, errors) == (0, "")


@pytest.mark.parametrize("method, path, headers, code, reason, message", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_rejection_has_the_apis_status(demo, method, path, headers, code, reason, message):
    answer = ask(demo.url + path, method, {} if method in ("POST", "PUT", "PATCH") else None, **headers)
    assert answer.code == code and message in answer.body["message"]
    assert answer.body["kind"] == "Status" and answer.body["reason"] == reason and answer.body["code"] == code


def test_an_unknown_path_is_plain_text(demo):
    for path in (
        "/",
        "/api/v1/gadgets",
        "/apis/example.com/v1/things",
        "/api/v1/namespaces/x/nodes",
        "/api/v1/services/x",
    ):
        assert ask(demo.url + path)[:2] == (404, "404 page not found\n")


def test_health_and_discovery(demo):
    assert [ask(f"{demo.url}/{path}").body for path in ("healthz", "livez", "readyz", "readyz/ping")] == ["ok"] * 4
    assert ask(demo.url + "/version").body["major"] == "1"
    groups = [group["name"] for group in ask(demo.url + "/apis").body["groups"]]
    assert "discovery.k8s.io" in groups
    core = {r["name"]: r for r in ask(demo.url + "/api/v1").body["resources"]}
    assert core["services"]["shortNames"] == ["svc"] and core["services"]["verbs"] == ["get", "list", "watch"]
    assert core["events"]["verbs"] == ["create", "get", "list", "watch"]


def test_the_whole_recording_is_served(demo):
    """Every list holds the very objects of the recording's initial list, in the API's order."""
    events = [json.loads(line) for line in DEMO.read_text().splitlines()[1:]]
    for resource, path in (
        ("services", "/api/v1/services"),
        ("nodes", "/api/v1/nodes"),
        ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ):
        wanted = [e["object"] for e in events if e["t"] == 0 and e["resource"] == resource and e["type"] == "ADDED"]
        wanted.sort(key=lambda o: (o["metadata"].get("namespace", ""), o["metadata"]["name"]))
        assert ask(demo.url + path).body["items"] == wanted
    namespaces = {item["metadata"]["name"] for item in ask(demo.url + "/api/v1/namespaces").body["items"]}
    assert namespaces > {e["object"]["metadata"].get("namespace", "default") for e in events if e["type"] == "ADDED"}
    assert ask(demo.url + "/apis/networking.k8s.io/v1/servicecidrs").body["items"][0]["spec"] == {
        "cidrs": ["10.96.0.0/12", "fd00:10:96::/108"]
    }


def test_every_representation_of_a_response(demo):
    name = ask(demo.url + "/api/v1/services?limit=1").body["items"][0]["metadata"]["name"]
    partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
    body = ask(demo.url + "/api/v1/services", Accept=partial).body
    assert body["kind"] == "PartialObjectMetadataList" and set(body["items"][0]) == {"kind", "apiVersion", "metadata"}
    both = "application/vnd.kubernetes.protobuf, application/json"
    answer = ask(f"{demo.url}/api/v1/services?fieldSelector=metadata.name%3D{name}", Accept=both)
    assert answer.headers["Content-Type"] == "application/json" and len(answer.body["items"]) == 1
    table = ask(demo.url + "/api/v1/services?includeObject=None", Accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert table.body["kind"] == "Table" and set(table.body["rows"][0]) == {"cells"}


def test_events_are_accepted_and_listed_in_both_api_groups(serve):
    served = serve(DEMO, "--start-paused")
    event = {
        "metadata": {"generateName": "node-"},
        "regarding": {"kind": "Node", "name": "node-0001"},
        "note": "hello",
        "reason": "Starting",
        "type": "Normal",
    }
    made = ask(f"{served.url}/apis/events.k8s.io/v1/namespaces/default/events", "POST", event)
    assert made.code == 201 and made.body["metadata"]["name"].startswith("node-") and made.body["metadata"]["uid"]
    selector = "involvedObject.name%3Dnode-0001,involvedObject.kind%3DNode"
    (found,) = ask(f"{served.url}/api/v1/events?fieldSelector={selector}").body["items"]
    assert found["message"] == "hello" and found["involvedObject"]["name"] == "node-0001"


def test_token(serve):
    served = serve(DEMO, "--start-paused", "--token", "s3cret")
    refused = ask(served.url + "/api/v1/services")
    assert (
        refused.code == 401 and refused.body["reason"] == "Unauthorized" and refused.body["message"] == "Unauthorized"
    )
    assert ask(served.url + "/control/status").code == 401
    assert ask(served.url + "/api/v1/services", Authorization="Bearer wrong").code == 401
    assert ask(served.url + "/api/v1/services", Authorization="Bearer s3cret").code == 200
    assert ask(served.url + "/healthz").code == 200 and ask(served.url + "/version").code == 200


def lines_of(url: str) -> list[dict]:
    """Every event of a watch that ends by itself."""
    with urllib.request.urlopen(url, timeout=60) as reply:
        return [json.loads(line) for line in reply]


def test_a_watch_ends_by_its_timeout_with_a_bookmark(api):
    api.store.apply("nodes", {"metadata": {"name": "n"}})
    events = lines_of(f"{api.url}/api/v1/nodes?watch=true&timeoutSeconds=1&allowWatchBookmarks=true")
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]
    assert events[1]["object"]["metadata"]["resourceVersion"] == events[0]["object"]["metadata"]["resourceVersion"]
    assert lines_of(f"{api.url}/api/v1/nodes?watch=true&timeoutSeconds=1&resourceVersion=1")[0]["type"] == "ADDED"


def test_a_streamed_list_ends_with_a_bookmark(api):
    for name in ("a", "b"):
        api.store.apply("nodes", {"metadata": {"name": name}})
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    events = lines_of(f"{api.url}/api/v1/nodes?{query}")
    assert [event["type"] for event in events] == ["ADDED", "ADDED", "BOOKMARK", "BOOKMARK"]
    assert events[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_bookmarks_come_in_time():
    with LiveApi(bookmark_seconds=0.2) as live:
        events = lines_of(f"{live.url}/api/v1/nodes?watch=1&allowWatchBookmarks=1&timeoutSeconds=1")
        assert len(events) >= 3 and {event["type"] for event in events} == {"BOOKMARK"}


def test_the_server_ends_watches_cleanly_when_it_stops():
    with LiveApi() as live:
        reply = urllib.request.urlopen(f"{live.url}/api/v1/nodes?watch=1&resourceVersion=0", timeout=60)
        seen: list[bytes] = []
        reader = threading.Thread(target=lambda: seen.extend(reply))
        reader.start()
        live.store.apply("nodes", {"metadata": {"name": "n"}})
    reader.join(10)
    assert not reader.is_alive() and len(seen) == 1, "the stream ended, whole"


def test_a_disconnected_client_is_removed(serve):
    served = serve(DEMO, "--start-paused")
    reply = urllib.request.urlopen(f"{served.url}/api/v1/nodes?watch=1", timeout=60)
    assert ask(served.url + "/control/status").body["watchers"] == 1
    reply.close()
    end = time.monotonic() + 60
    while ask(served.url + "/control/status").body["watchers"] and time.monotonic() < end:
        time.sleep(0.05)
    assert ask(served.url + "/control/status").body["watchers"] == 0


def watch_of(live: LiveApi):
    """An open watch that has delivered its first event."""
    live.store.apply("nodes", {"metadata": {"name": "n"}})
    reply = urllib.request.urlopen(f"{live.url}/api/v1/nodes?watch=1", timeout=60)
    assert json.loads(reply.readline())["type"] == "ADDED"
    return reply


def test_disconnected_watches_break_off(api):
    reply = watch_of(api)
    api.disconnect()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        reply.read()


def test_expired_watches_end_with_410(api):
    reply = watch_of(api)
    api.expire()
    assert [json.loads(line)["object"]["code"] for line in reply] == [410]
    assert [item["metadata"]["name"] for item in ask(f"{api.url}/api/v1/nodes").body["items"]] == ["n"]


def test_a_delayed_api_keeps_requests_waiting(api):
    api.delay(60)
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(f"{api.url}/api/v1/nodes", timeout=0.3)
    api.delay(0)
    assert ask(f"{api.url}/api/v1/nodes").code == 200


def test_an_api_that_was_down_comes_back_where_it_was(api):
    url, reply = api.url, watch_of(api)
    api.stop()
    assert reply.read() == b""
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{url}/healthz", timeout=5)
    api.store.apply("nodes", {"metadata": {"name": "meanwhile"}})
    api.start()
    assert api.url == url and len(ask(f"{url}/api/v1/nodes").body["items"]) == 2


def test_the_control_endpoint_injects_faults(serve):
    served = serve(DEMO, "--start-paused")

    def watch():
        since = ask(f"{served.url}/api/v1/nodes").body["metadata"]["resourceVersion"]
        return urllib.request.urlopen(f"{served.url}/api/v1/nodes?watch=1&resourceVersion={since}", timeout=60)

    reply = watch()
    served.control("expire")
    assert json.loads(reply.read())["object"]["code"] == 410
    reply = watch()
    served.control("disconnect")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        reply.read()
    served.control("delay", seconds=60)
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(f"{served.url}/api/v1/nodes", timeout=0.3)
    assert ask(f"{served.url}/control/delay?seconds=x", "POST").code == 400


def test_many_watchers_receive_the_same(api):
    """Two hundred at once, each with a selector of its own kind: all that it should, in order."""
    selectors = {
        "": 40,
        "labelSelector=half%3D0": 20,
        "fieldSelector=metadata.name%3Dn7": 1,
        "labelSelector=%21half": 0,
    }
    queries = [query for query in selectors for _ in range(50)]
    urls = [f"{api.url}/api/v1/nodes?watch=1&resourceVersion=1&{query}" for query in queries]
    replies = [urllib.request.urlopen(url, timeout=60) for url in urls]
    for number in range(40):
        api.store.apply("nodes", {"metadata": {"name": f"n{number}", "labels": {"half": str(number % 2)}}})
    for reply, query in zip(replies, queries, strict=True):
        names = [json.loads(reply.readline())["object"]["metadata"]["name"] for _ in range(selectors[query])]
        assert names == sorted(names, key=lambda name: int(name[1:])) and len(set(names)) == selectors[query]
    api.stop()
    assert all(reply.read() == b"" for reply in replies), "and nothing else"
