"""A client that lists, watches, is cut off, resumes, gets 410 and lists again ends with the store's state."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.apiserver import StatusError, Store, wire
from harness.apiserver.listing import Lister, Listing
from harness.apiserver.scope import Scope, scope_of
from harness.apiserver.watching import WatchRequest, WatchStream
from harness.kube.resources import SERVICES

SCOPES = (
    {},
    {"labelSelector": "app=a"},
    {"labelSelector": "app notin (a)"},
    {"fieldSelector": "spec.type=NodePort"},
    {"fieldSelector": "metadata.name!=n1", "labelSelector": "app"},
)


def service(
    name: str, labels: dict | None = None, kind: str = "ClusterIP", namespace: str = "x", rv: str = ""
) -> bytes:
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}, "resourceVersion": rv}
    return json.dumps({"metadata": metadata, "spec": {"type": kind}}).encode()


class Client:
    """What client-go's reflector does, in few lines: list, watch from there, follow, start over on 410."""

    def __init__(self, store: Store, scope: Scope, page: int, streaming: bool) -> None:
        self._collection, self._scope, self._page, self._streaming = (
            store.collection("services"),
            scope,
            page,
            streaming,
        )
        self.state: dict[tuple[str, str], dict] = {}
        self.revision: str | None = None
        self._watch: WatchStream | None = None
        self._frames: list[bytes] = []

    def cut(self) -> None:
        """The connection breaks: what was not read is lost."""
        self._watch, self._frames = None, []

    def read(self, frames: int) -> bool:
        """Read up to so many frames; False when there were fewer."""
        for _ in range(frames):
            self._connect()
            self._frames = self._frames or [f for batch in self._watch.pending() for f in batch.splitlines(True)]
            if not self._frames:
                return False
            self._take(json.loads(self._frames.pop(0)))
        return True

    def _connect(self) -> None:
        if self._watch is not None:
            return
        streamed = self._streaming and self.revision is None
        if self.revision is None and not streamed:
            self._list()
        since = None if streamed else int(self.revision)
        request = WatchRequest(since, bookmarks=True, initial_events=True if streamed else None)
        self._watch = WatchStream(self._collection, self._scope, request, wire.PLAIN)
        if streamed:
            self.state = {}
        self._frames = list(self._watch.opening())

    def _list(self) -> None:
        lister, token, items = Lister(), "", []
        while True:
            body = json.loads(
                lister.body(self._collection, self._scope, Listing(limit=self._page, token=token), wire.PLAIN)
            )
            items += body["items"]
            token = body["metadata"].get("continue", "")
            if not token:
                break
        self.state = {_key(item): item for item in items}
        self.revision = body["metadata"]["resourceVersion"]

    def _take(self, event: dict) -> None:
        found = event["object"]
        if event["type"] == "ERROR":
            assert found["code"] == 410 and found["reason"] == "Expired"
            self.revision = None
            self.cut()
            return
        # The API's promise: each event fits the state that the ones before it left.
        assert (event["type"] == "ADDED") == (event["type"] != "BOOKMARK" and _key(found) not in self.state)
        if event["type"] == "DELETED":
            del self.state[_key(found)]
        elif event["type"] != "BOOKMARK":
            self.state[_key(found)] = found
        if event["type"] == "BOOKMARK" or self.revision is not None:
            self.revision = found["metadata"]["resourceVersion"]


def _key(found: dict) -> tuple[str, str]:
    return found["metadata"]["namespace"], found["metadata"]["name"]


changes = st.one_of(
    st.tuples(
        st.just("put"),
        st.sampled_from(["n1", "n2"]),
        st.sampled_from([{}, {"app": "a"}, {"app": "b"}]),
        st.sampled_from(["ClusterIP", "NodePort"]),
        st.sampled_from(["x", "x", "x", "y"]),
        st.sampled_from(["", "7", "40"]),
    ),
    st.tuples(st.just("remove"), st.sampled_from(["n1", "n2"]), st.sampled_from(["x", "x", "x", "y"])),
    st.tuples(st.just("read"), st.integers(1, 9)),
    st.tuples(st.sampled_from(["cut", "cut", "compact", "reset"])),
)


@given(
    steps=st.lists(changes, min_size=10, max_size=40),
    query=st.sampled_from(SCOPES),
    namespace=st.sampled_from(["", "x"]),
    page=st.sampled_from([0, 1, 2]),
    history=st.sampled_from([1, 3, 100]),
    streaming=st.booleans(),
)
def test_a_client_always_ends_with_the_stores_state(steps, query, namespace, page, history, streaming):
    store = Store(history)
    scope = scope_of(SERVICES, namespace, query)
    client = Client(store, scope, page, streaming)
    client.read(1)
    for name, *arguments in steps:
        match name:
            case "put":
                store.put("services", service(*arguments))
            case "remove":
                store.remove("services", arguments[1], arguments[0])
            case "read":
                client.read(*arguments)
            case "cut":
                client.cut()
            case "compact":
                store.forget()
            case "reset":
                store.reset()
    assert not client.read(400), "it must come to an end"
    seen = filter(scope.sees, store.collection("services").snapshot().objects)
    assert client.state == {found.key: found.manifest() for found in seen}


@given(st.lists(changes, max_size=30))
def test_resource_versions_rise_and_are_on_the_objects(steps):
    store, notified = Store(), [1]
    store.subscribe(lambda change: change.object.kind is SERVICES and notified.append(change.revision))
    for name, *arguments in steps:
        if name == "put":
            change = store.put("services", service(*arguments))
            assert change.manifest()["metadata"]["resourceVersion"] == str(change.revision)
        elif name == "remove":
            store.remove("services", arguments[1], arguments[0])
        elif name == "reset":
            store.reset()
    assert notified == sorted(set(notified))


def test_the_recordings_own_bytes_are_served_where_they_can_be():
    raw = (
        b'{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"x","resourceVersion":"9"}, "odd": 1}'
    )
    store = Store()
    assert store.put("services", raw).object.raw == raw
    again = store.put("services", raw)
    assert again.revision == 10 and again.manifest()["odd"] == 1


def test_one_encoding_serves_all_watchers():
    store = Store()
    watchers = [WatchStream(store.collection("services"), Scope(), WatchRequest(1), wire.PLAIN) for _ in range(3)]
    assert [list(watcher.opening()) for watcher in watchers] == [[], [], []]
    store.put("services", service("a"))
    frames = [watcher.pending()[0] for watcher in watchers]
    assert frames[0] is frames[1] is frames[2]


def test_a_watch_from_before_the_history_is_expired():
    store = Store(history=2)
    for number in range(10):
        store.put("services", service(f"s{number}"))
    with pytest.raises(StatusError) as gone:
        store.collection("services").cursor(3)
    assert (
        gone.value.code == 410
        and gone.value.message == f"too old resource version: 3 ({store.collection('services').compacted})"
    )
    watcher = WatchStream(store.collection("services"), Scope(), WatchRequest(3), wire.PLAIN)
    assert json.loads(next(watcher.opening()))["object"]["code"] == 410 and watcher.ended


def test_a_watch_from_the_future_waits_for_it():
    store = Store()
    watcher = WatchStream(store.collection("services"), Scope(), WatchRequest(50), wire.PLAIN)
    assert list(watcher.opening()) == []
    store.put("services", service("early", rv="40"))
    assert watcher.pending() == []
    store.put("services", service("late", rv="51"))
    assert json.loads(watcher.pending()[0])["object"]["metadata"]["name"] == "late"


def test_pages_show_one_snapshot():
    store, lister = Store(), Lister()
    for name in "abcde":
        store.put("services", service(name))
    collection = store.collection("services")
    first = json.loads(lister.body(collection, Scope(), Listing(limit=2), wire.PLAIN))
    assert first["metadata"]["remainingItemCount"] == 3
    store.remove("services", "x", "c")
    rest = Listing(limit=9, token=first["metadata"]["continue"])
    second = json.loads(lister.body(collection, Scope(), rest, wire.PLAIN))
    names = [item["metadata"]["name"] for item in first["items"] + second["items"]]
    assert names == list("abcde") and first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    with pytest.raises(StatusError, match="too old to display"):
        Lister().body(collection, Scope(), rest, wire.PLAIN)


def test_a_server_may_have_smaller_pages_than_are_asked_for():
    store = Store()
    for name in "abcde":
        store.put("services", service(name))
    listing, sizes, lister = Listing(limit=4), [], Lister(most=2)
    while listing.token or not sizes:
        page = json.loads(lister.body(store.collection("services"), Scope(), listing, wire.PLAIN))
        sizes.append(len(page["items"]))
        listing = Listing(limit=4, token=page["metadata"].get("continue", ""))
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("history", [1, 2, 3, 5, 100])
def test_the_history_is_complete_or_expired(history):
    """From any resourceVersion: every later change, or 410; never a part. And a reader knows how far it is."""
    store, notified = Store(history), []
    store.subscribe(lambda change: change.object.kind is SERVICES and notified.append(change))
    for number in range(12):
        store.put("services", service(f"s{number % 3}", {"n": str(number)}))
    collection = store.collection("services")
    assert len(notified) == 12 and len(list(store.changes("services", collection.compacted))) >= min(history, 12)
    for since in range(1, collection.revision + 1):
        if since < collection.compacted:
            with pytest.raises(StatusError):
                collection.cursor(since)
            continue
        cursor, wanted = collection.cursor(since), [change for change in notified if change.revision > since]
        for change in wanted:
            assert cursor.take(1) == [change] and cursor.revision == change.revision
        assert cursor.take(1) == []
