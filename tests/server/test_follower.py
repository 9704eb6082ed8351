"""A follower against a server that misbehaves in every way: what it delivers always adds up to the server's state.

The server is scripted answer by answer over real sockets, a `Cut` ending one in the middle of a line.
"""

from __future__ import annotations

import json
import queue
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.server.api import watching
from engine.server.api.client import ApiClient, load_configuration
from engine.server.api.watching import Follower, Resource

WAIT_SECONDS = 60


def thing(name: str, version: int) -> dict:
    return {"metadata": {"namespace": "ns", "name": name, "resourceVersion": str(version)}, "spec": {"v": version}}


def page(version: int, *things: dict, more: str = "") -> dict:
    return {"kind": "List", "metadata": {"resourceVersion": str(version), "continue": more}, "items": list(things)}


def event(kind: str, value: dict) -> bytes:
    return json.dumps({"type": kind, "object": value}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


def gone(code: int = 410) -> dict:
    return {"kind": "Status", "code": code, "message": "too old resource version"}


class Scripted(socketserver.ThreadingTCPServer):
    """Answers each request with the script's next entry: a page, a status, or a list of a watch's chunks.

    A chunk None breaks the connection off, a number is a pause in seconds; `asked` collects path queries.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, script: list) -> None:
        self.script, self.asked = iter(script), queue.Queue()
        super().__init__(("127.0.0.1", 0), _Answering)


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.put({key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()})
        entry = next(self.server.script, None)
        if entry is None:
            threading.Event().wait(WAIT_SECONDS)  # a watch that brings nothing
        elif isinstance(entry, list):
            self._stream(entry)
        else:
            body = entry if isinstance(entry, bytes) else json.dumps(entry).encode()
            self.send_response(entry.get("code", 200) if isinstance(entry, dict) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _stream(self, chunks):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            if chunk is None:
                self.close_connection = True
                return
            if isinstance(chunk, float):
                threading.Event().wait(chunk)
                continue
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")


A1, A2, B1, C1 = thing("a", 1), thing("a", 12), thing("b", 2), thing("c", 13)
LISTED = page(10, A1, B1)
TRUTH = {"a": 12, "c": 13}
"""b is deleted, a is changed, c is new."""
NEWS = event("MODIFIED", A2) + event("ADDED", C1) + event("DELETED", thing("b", 14))
RELISTED = page(14, A2, C1)

STORIES = {
    "a watch that goes well": [LISTED, [NEWS]],
    "chunks that end anywhere": [LISTED, [NEWS[i : i + 7] for i in range(0, len(NEWS), 7)]],
    "pages": [page(10, A1, more="t"), page(10, B1), [NEWS]],
    "pages that expire": [page(10, A1, more="t"), gone(), LISTED, [NEWS]],
    "broken off between lines": [LISTED, [event("MODIFIED", A2), None], [event("ADDED", C1) + event("DELETED", B1)]],
    "broken off in a line": [LISTED, [event("MODIFIED", A2), event("ADDED", C1)[:30], None], [NEWS]],
    "ended early by the server": [LISTED, [], [], [NEWS]],
    "resumed behind a bookmark": [LISTED, [bookmark(11)], [NEWS]],
    "410 at once": [LISTED, gone(), RELISTED],
    "410 in the watch": [LISTED, [event("MODIFIED", A2), event("ERROR", gone())], RELISTED],
    "another ERROR": [LISTED, [event("ERROR", {"code": 500, "message": "etcd"})], [NEWS]],
    "nonsense in the watch": [LISTED, [b"{nonsense\n"], RELISTED],
    "nonsense as a list": [b"<html>", LISTED, [NEWS]],
    "errors before the first list": [gone(503), gone(429), gone(401), LISTED, [NEWS]],
    "an error while relisting": [LISTED, gone(), gone(500), RELISTED],
    "an error between pages, and one is gone": [page(10, A1, B1, more="t"), gone(500), RELISTED],
    "nonsense between pages": [page(10, A1, B1, more="t"), b"<html>", RELISTED],
}


@pytest.mark.parametrize("story", STORIES)
def test_delivered_changes_add_up_to_the_state(story, monkeypatch):
    """Folding the changes gives the truth, whatever happened; `synced` comes with the first list's end."""
    monkeypatch.setattr(watching, "_BACKOFF_SECONDS", 0.01)
    delivered: queue.Queue = queue.Queue()
    with Scripted(STORIES[story]) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        follower, stop = follow(server, delivered)
        state: dict[str, int] = {}
        while state != TRUTH:
            _, changes, synced = delivered.get(timeout=WAIT_SECONDS)
            for change in changes:
                fold(state, change)
        stop.set()
        server.shutdown()


def test_a_watch_resumes_where_it_stopped(monkeypatch):
    """At the last version seen, a bookmark's too, and the label selector goes along everywhere."""
    monkeypatch.setattr(watching, "_BACKOFF_SECONDS", 0.01)
    delivered: queue.Queue = queue.Queue()
    with Scripted([LISTED, [event("MODIFIED", A2)], [bookmark(20)]]) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        _, stop = follow(server, delivered)
        asked = [server.asked.get(timeout=WAIT_SECONDS) for _ in range(4)]
        stop.set()
        server.shutdown()
    assert [query.get("resourceVersion") for query in asked] == ["0", "10", "12", "20"]
    assert {query["labelSelector"] for query in asked} == {"!foreign"}
    assert asked[0]["limit"] == str(watching.PAGE)
    assert all(query["allowWatchBookmarks"] == "true" for query in asked[1:])


@pytest.mark.parametrize("ending", [[None], []], ids=["cut off", "ended by the server"])
def test_a_quiet_watch_that_worked_ends_the_backoff(ending, monkeypatch):
    """It is opened again at once, and what fails after it waits as after a first failure, not 30 s."""
    monkeypatch.setattr(watching, "_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(watching, "_BACKOFF_LIMIT_SECONDS", 3600.0)
    monkeypatch.setattr(watching, "_SHORT_SECONDS", 0.2)
    delivered: queue.Queue = queue.Queue()
    failures = [gone(503)] * 5  # the last of them doubles the wait to 0.32 s
    with Scripted([LISTED, *failures, [0.3, *ending], gone(503), [NEWS]]) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        follower, stop = follow(server, delivered)
        for _ in range(9):
            server.asked.get(timeout=WAIT_SECONDS)
        assert follower._backoff <= 0.02
        stop.set()
        server.shutdown()


def test_a_watch_that_ends_at_once_is_reopened_with_backoff(monkeypatch):
    """It waits longer each time, be it cut off or ended."""
    monkeypatch.setattr(watching, "_BACKOFF_SECONDS", 0.01)
    delivered: queue.Queue = queue.Queue()
    with Scripted([LISTED, [None], [], [None], []]) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        follower, stop = follow(server, delivered)
        for _ in range(6):
            server.asked.get(timeout=WAIT_SECONDS)
        assert follower._backoff == 0.16
        stop.set()
        server.shutdown()


def test_only_the_first_list_may_be_of_any_version(monkeypatch):
    """From the server's memory, until one came through; later that would turn time back."""
    monkeypatch.setattr(watching, "_BACKOFF_SECONDS", 0.01)
    delivered: queue.Queue = queue.Queue()
    with Scripted([gone(503), LISTED, gone(), RELISTED]) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        _, stop = follow(server, delivered)
        asked = [server.asked.get(timeout=WAIT_SECONDS) for _ in range(4)]
        stop.set()
        server.shutdown()
    assert [query.get("resourceVersion") for query in asked if "watch" not in query] == ["0", "0", None]


KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
"""


def test_master_wins_over_the_kubeconfig(tmp_path):
    """For every request, with its token, which the client may renew (CFG-21)."""
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    with Scripted([LISTED, RELISTED]) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        api = ApiClient(load_configuration(str(tmp_path / "kubeconfig"), address))
        assert [json.loads(api.get("/api/v1/things")) for _ in range(2)] == [LISTED, RELISTED]
        assert api.host == f"http://{address}"
        server.shutdown()


def test_a_resource_missing_in_the_api_does_not_block_the_others(monkeypatch):
    """An optional resource that is not there, or forbidden, counts as listed."""
    delivered: queue.Queue = queue.Queue()
    with Scripted([gone(404)]) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        _, stop = follow(server, delivered, optional=True)
        assert delivered.get(timeout=WAIT_SECONDS) == ("things", [], True)
        stop.set()
        server.shutdown()


def follow(server: Scripted, delivered: queue.Queue, optional: bool = False):
    """A follower of the server in a thread of its own."""
    api, stop = ApiClient(load_configuration("", f"http://127.0.0.1:{server.server_address[1]}")), threading.Event()
    resource = Resource("things", "/api/v1/things", "!foreign", optional=optional)
    follower = Follower(api, resource, lambda *delivery: delivered.put(delivery), stop)
    threading.Thread(target=follower.run, daemon=True).start()
    return follower, stop


def fold(state: dict[str, int], change) -> None:
    """An inconsistent change, such as adding what exists already, is an error of the follower's."""
    value = json.loads(change.manifest)
    name = value["metadata"]["name"]
    if change.type == "DELETED":
        del state[name]
    else:
        assert (name in state) == (change.type == "MODIFIED"), change
        state[name] = value["spec"]["v"]
