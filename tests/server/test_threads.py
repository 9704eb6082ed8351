"""The daemon's threads survive a lack of descriptors and threads, and a dead thread ends the process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time

import pytest

from engine.kernel.interface import KernelError
from engine.server.api import events
from engine.server.api.client import ApiClient, ApiError, load_configuration
from engine.server.api.events import EventSender
from engine.server.http.listening import HEALTHZ
from engine.server.http.servers import Answer, HttpListener
from engine.server.runtime import host
from harness.conformance.corpus.clusters import end, node, service, slice_

from .lab import eventually


def answered(port: int) -> int | None:
    """The status of an answer, None when there is none in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


@contextlib.contextmanager
def no_more_files():
    """Takes all descriptors that this process may have, but for one that a test's client needs first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def server():
    made = HttpListener("127.0.0.1", 0, lambda path, query: Answer(200, b"ok"))
    yield made
    made.close()


def connecting(port: int) -> subprocess.Popen:
    """Another process that connects, asks, and says what it got."""
    text = (
        "import http.client,sys\nc=http.client.HTTPConnection('127.0.0.1',int(sys.argv[1]),timeout=60)\n"
        "c.connect();print('connected',flush=True);c.request('GET','/');print(c.getresponse().status,flush=True)"
    )
    return subprocess.Popen([sys.executable, "-c", text, str(port)], stdout=subprocess.PIPE, text=True)


def test_a_health_port_without_files_waits_and_goes_on(server):
    """A client that comes meanwhile is answered when there are files again; until then nothing spins."""
    accept, attempts = server._server.get_request, []
    server._server.get_request = lambda: attempts.append(1) or accept()
    client = connecting(server.port)
    with no_more_files():
        assert client.stdout.readline() == "connected\n"
        time.sleep(1.0)
        assert 1 <= len(attempts) < 20
        assert server._thread.is_alive()
    assert client.stdout.readline() == "200\n"
    assert client.wait(60) == 0
    client.stdout.close()
    assert answered(server.port) == 200


def test_a_health_port_without_threads_turns_clients_away_and_goes_on(server, monkeypatch):
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert answered(server.port) is None
    assert answered(server.port) is None
    monkeypatch.setattr(threading.Thread, "start", start)
    eventually(lambda: answered(server.port) == 200, "answers again")


def test_a_server_that_gets_no_thread_leaves_no_socket(monkeypatch):
    """It is an address that cannot be listened on, tried again like any other, and then free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start, failing = threading.Thread.start, [2]

    def refused(thread: threading.Thread) -> None:
        if thread.name.startswith("http ") and failing[0]:
            failing[0] -= 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(OSError, match="can't start new thread"):
        HttpListener("127.0.0.1", port, lambda path, query: Answer(200, b"ok"))
    monkeypatch.setattr("engine.server.http.listening.RETRY_SECONDS", 0.05)
    HEALTHZ.start(f"127.0.0.1:{port}", lambda path, query: Answer(200, b"ok"), None, threading.Event(), None)
    eventually(lambda: answered(port) == 200, "the second attempt's answer")


def test_an_unsent_event_does_not_block_others(monkeypatch):
    """Whatever it is that it raises."""
    sent = []

    def post(path: str, value: dict) -> None:
        if value["reason"] == "Odd":
            raise UnicodeEncodeError("ascii", "é", 0, 1, "no")
        if value["reason"] == "Late" and not sent:
            sent.append("refused")
            raise ApiError("busy", 503)
        sent.append(value["reason"])

    monkeypatch.setattr(events, "_RETRY_SECONDS", 0.01)
    api = ApiClient(load_configuration("", "http://127.0.0.1:1"))
    monkeypatch.setattr(api, "post", post)
    recorder = EventSender(api, "n1")
    for reason in ("Odd", "Late", "Good"):
        recorder.node_event("Normal", reason, "Test", "")
    eventually(lambda: sent == ["refused", "Late", "Good"], "both Events")


def test_events_are_waited_for_but_not_for_ever(monkeypatch):
    """A process that gives up ends right after its last Event."""
    sent, answer = [], threading.Event()

    def post(path: str, value: dict) -> None:
        answer.wait(30)
        sent.append(value["reason"])

    api = ApiClient(load_configuration("", "http://127.0.0.1:1"))
    monkeypatch.setattr(api, "post", post)
    recorder = EventSender(api, "n1")
    recorder.node_event("Warning", "Slow", "Test", "")
    recorder.flush(0.01)
    assert sent == []
    threading.Timer(0.05, answer.set).start()
    recorder.flush(30)
    assert sent == ["Slow"]


class Notices:
    """One notice, and then none until closed; remembers how long `receive` was to wait."""

    def __init__(self) -> None:
        self.waits: list[float | None] = []
        self._closed = threading.Event()

    def receive(self, seconds: float | None = None) -> list | None:
        self.waits.append(seconds)
        if len(self.waits) == 1 or seconds is not None:
            return []
        self._closed.wait(30)
        return None

    def close(self) -> None:
        self._closed.set()


@pytest.mark.parametrize("error", [KernelError("too many open files"), KernelError("timed out")])
def test_addresses_that_cannot_be_read_are_read_later(monkeypatch, error):
    """Without another notice."""
    changes, answers = [], [error, error, [(1, b"\n\0\0\1")], []]
    monkeypatch.setattr(host, "_AGAIN_SECONDS", 0.01)
    monitor = host.LocalAddresses(lambda: changes.append(monitor()))
    monitor._notices.close()
    monitor._notices = Notices()

    def read(connection, family: int) -> list:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(host, "addresses", read)
    monitor.start()
    eventually(lambda: changes == [(b"\n\0\0\1",)], "the change")
    monitor.close()
    monitor._thread.join(10)
    assert monitor._notices.waits == [None, 0, 0, None]


def test_without_files_the_addresses_are_the_same():
    """That of the ignored device must not come in because its number could not be asked for."""
    monitor = host.LocalAddresses(lambda: None, ignored="lo")
    with no_more_files():
        assert monitor._read() == monitor()
    assert b"\x7f\0\0\1" not in monitor()
    assert b"\x7f\0\0\1" in host.LocalAddresses(lambda: None, ignored="no-such-device")()
    monitor.close()


def test_a_thread_that_breaks_ends_the_process(lab):
    """With its stack in the log, in the log's own form, and exit code 1."""
    breaking = lab.folder / "sitecustomize.py"
    breaking.write_text(
        "import engine.server.api.watching as w\n"
        "def broken(self):\n    raise AttributeError('no such thing')\n"
        "w.Follower._relist = broken\n"
    )
    lab.record([node()])
    lab.serve()
    daemon = lab.daemon(environment={"PYTHONPATH": str(lab.folder)}, logging={"format": "json"})
    assert daemon.popen.wait(60) == 1
    lines = [json.loads(line) for line in daemon.text().splitlines()]
    broke = next(line for line in lines if line["msg"] == "Thread failed")
    assert "AttributeError: no such thing" in broke["stacktrace"]
    failed = next(line for line in lines if line["msg"] == "Command failed")  # other followers may break after it
    assert "failed: AttributeError" in failed["err"]


@pytest.mark.parametrize("thread", ["addresses", "endpointslices"])
def test_a_thread_that_does_not_start_ends_the_process(lab, thread):
    """With one line in the log's own form: a node that follows only some of what changes is worse than none."""
    (lab.folder / "sitecustomize.py").write_text(
        "import threading\nstart = threading.Thread.start\n"
        "def refused(self):\n"
        f'    if self.name == {thread!r}:\n        raise RuntimeError("can\'t start new thread")\n'
        "    start(self)\n"
        "threading.Thread.start = refused\n"
    )
    lab.record([node()])
    lab.serve()
    daemon = lab.daemon(environment={"PYTHONPATH": str(lab.folder)}, logging={"format": "json"})
    assert daemon.popen.wait(60) == 1
    failed = json.loads(daemon.text().splitlines()[-1])
    assert (failed["msg"], failed["err"]) == ("Command failed", "failed to start a thread: can't start new thread")


def test_a_service_that_breaks_the_backend_is_reported_and_does_not_affect_others(lab):
    """By log, metric and Event; once it has gone, so has the report."""
    (lab.folder / "sitecustomize.py").write_text(
        "from engine.backends.nftables import NftablesBackend as Backend\n"
        "plan = Backend.plan\n"
        "def broken(self, changes, host):\n"
        "    changes = [*changes]\n"
        "    if any(change.service.name == 'bad' and change.new for change in changes):\n"
        "        raise OverflowError('513 does not fit')\n"
        "    return plan(self, changes, host)\n"
        "Backend.plan = broken\n"
    )
    bad = service(name="bad", ip="172.30.0.66")
    events = [("ADDED", service(name="s2", ip="172.30.0.42")), ("ADDED", bad), ("DELETED", bad)]
    lab.record([node(), service(), slice_(end("10.180.0.1"))], events)
    lab.serve()
    daemon = lab.daemon(environment={"PYTHONPATH": str(lab.folder)}, logging={"format": "json"})
    daemon.says('"Started"')
    lab.converges()
    lab.step(2)
    lost = "172.30.0.66"
    eventually(lambda: (found := lab.differences()) and all(lost in line for line in found), "all but the bad one")
    counted = 'kubeproxy_sync_proxy_rules_services_degraded{ip_family="%s"}'
    eventually(lambda: lab.metrics()[counted % "IPv4"] == 1, "the count")
    assert lab.metrics()[counted % "IPv6"] == 0
    eventually(lambda: "ServiceDegraded" in lab.events(), "the Event")
    lines = [json.loads(line) for line in daemon.text().splitlines()]
    (logged,) = (line for line in lines if line["msg"] == "Service is not programmed as specified")
    assert (logged["service"], logged["what"]) == ("ns/bad", "cannot be programmed: OverflowError: 513 does not fit")
    lab.step()
    lab.converges()
    eventually(lambda: lab.metrics()[counted % "IPv4"] == 0, "the end of the report")
    assert daemon.popen.poll() is None
