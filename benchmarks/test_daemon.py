"""`proxy-engine` as a process: first sync, latency of one change, memory, and idle CPU.

The API server is `harness serve` on loopback, with TLS and a token, and shares the same cores.  A
change's time runs from asking that server for its next event until the kernel announces the transaction
(NFT_MSG_NEWGEN), so sending the event is in it; the reference is the bare round trip of such a request.  The reference
of a start is fetching both lists, without decoding them.
"""

from __future__ import annotations

import copy
import http.client
import json
import re
import select
import socket
import statistics
import struct
import time
from pathlib import Path

import pytest

from harness.places.namespace import Namespace
from tests.server.conftest import certificate  # noqa: F401 (a fixture)
from tests.server.lab import API_PORT, TOKEN, Lab, Process, wrapped

SERVICES, ENDPOINTS, CHANGES = 10_000, 10, 200
STARTS = {(10_000, 10): "<= 1.4 s", (44_125, 1): "<= 1.7 s"}
LISTS = ("/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices")
IDLE_SECONDS = 30.0
FIRST_SYNC_SECONDS = 90
NETFILTER, GROUP_NFTABLES, NEWGEN = 12, 7, 0x0A0F
SOL_NETLINK, ADD_MEMBERSHIP = 270, 1
WARM_UP, SETTLED_SECONDS = 5, 1.0
APART = 3600 * 10**9


@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", STARTS, ids=str)
def test_start(benchmark, tmp_path, certificate, recording_of, figure, size):  # noqa: F811 (the fixture)
    """From the process's start to rules live, in turns with the bare lists; the best of each."""
    turns: list[tuple[float, float, float, str]] = []
    with Namespace() as namespace, Lab(tmp_path, namespace, certificate) as lab:
        node = _with_changes(recording_of(*size), lab.recording)
        lab.serve()
        benchmark.pedantic(lambda: turns.append(_start(lab, node)), rounds=3)
    total, lists, cpu, parts = min(turns)
    figure(f"daemon, process start to rules live, {size[0]:,} x {size[1]}", f"{total:.2f} s", STARTS[size])
    figure("  " + " + ".join(re.findall(r"(\w+)_seconds", parts)), " + ".join(re.findall(r"=([\d.]+)", parts)))
    figure("  CPU of the daemon", f"{cpu:.2f} s")
    figure("  against fetching both lists", f"{total / lists:.2f} x", "", f"both lists {lists:.2f} s")


def _start(lab: Lab, node: str) -> tuple[float, float, float, str]:
    """Seconds of a start into an empty kernel, of the bare lists, of the daemon's CPU; and its own account."""
    for family in ("ip", "ip6"):
        lab.namespace.run(["nft", "delete", "table", family, "kube-proxy"])
    api = _api(lab)
    began = time.perf_counter()
    for path in LISTS:
        api.request("GET", f"{path}?resourceVersion=0", headers={"Authorization": f"Bearer {TOKEN}"})
        assert len(api.getresponse().read()) > 1 << 20
    lists = time.perf_counter() - began
    began = time.perf_counter()
    daemon = lab.daemon(hostnameOverride=node)
    daemon.says('"Started"', FIRST_SYNC_SECONDS)
    total, cpu = time.perf_counter() - began, _worked(daemon)
    line = next(line for line in daemon.text().splitlines() if '"Started"' in line)
    daemon.end()
    return total, lists, cpu, line


@pytest.mark.timeout(600)
def test_a_node_of_10000_services(benchmark, tmp_path, certificate, recording_of, figure):  # noqa: F811 (the fixture)
    """Sequential changes at minSyncPeriod 0, then idle."""
    with Namespace() as namespace, Lab(tmp_path, namespace, certificate) as lab:
        node = _with_changes(recording_of(SERVICES, ENDPOINTS), lab.recording)
        server = lab.serve()
        daemon = lab.daemon(hostnameOverride=node)
        daemon.says('"Started"', FIRST_SYNC_SECONDS)
        changes = _Changes(lab, daemon)
        before = [_worked(process) for process in (daemon, server)]
        waits = benchmark.pedantic(lambda: [changes.one() for _ in range(CHANGES - WARM_UP)], rounds=1)
        cpu = [(_worked(each) - was) / len(waits) for each, was in zip((daemon, server), before, strict=True)]
        bare = statistics.median(changes.round_trip() for _ in range(CHANGES))
        p50, p99 = (statistics.quantiles(waits, n=100)[at] * 1e3 for at in (49, 98))
        figure(
            "one change, event asked for to rules live, p50 (p99)",
            f"{p50:.2f} ({p99:.2f}) ms",
            "<= 10 ms",
            f"bare request {bare * 1e3:.2f} ms",
        )
        figure("  CPU time of it: daemon, API server", ", ".join(f"{each * 1e3:.2f} ms" for each in cpu))
        figure(
            "daemon's resident memory",
            f"{_status(daemon, 'VmRSS') / 1024:.0f} MiB",
            "<= 300 MiB",
        )
        figure("  at its peak", f"{_status(daemon, 'VmHWM') / 1024:.0f} MiB")
        figure("CPU while idle", f"{_idle_share(daemon):.3f} %", "< 0.5 %")


def _with_changes(source: Path, target: Path) -> str:
    """Write the initial list, then one endpoint per slice that becomes not ready; returns the name of a Node."""
    lines = source.read_bytes().splitlines()
    events = [json.loads(line) for line in lines[1:]]
    plain = {_name(e["object"]) for e in events if e["resource"] == "services" and _plain(e["object"].get("spec", {}))}
    slices = [e for e in events if e["resource"] == "endpointslices" and _felt(e["object"], plain)]
    with open(target, "wb") as out:
        out.write(b"\n".join(lines) + b"\n")
        for number, event in enumerate(slices[:CHANGES], start=events[-1]["seq"] + 1):
            changed = copy.deepcopy(event["object"])
            changed["endpoints"][0]["conditions"] = {"ready": False, "serving": False}
            changed["metadata"]["resourceVersion"] = str(10**9 + number)
            line = {"seq": number, "t": number * APART, "type": "MODIFIED", "resource": "endpointslices"}
            out.write(json.dumps(line | {"object": changed}).encode() + b"\n")
    return next(event["object"]["metadata"]["name"] for event in events if event["resource"] == "nodes")


def _name(manifest: dict) -> tuple[str, str]:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]


def _plain(spec: dict) -> bool:
    """Whether every node programs all endpoints of this Service."""
    return spec.get("clusterIP") not in (None, "", "None") and spec.get("internalTrafficPolicy") != "Local"


def _felt(piece: dict, plain: set[tuple[str, str]]) -> bool:
    """Whether the slice's first endpoint is in the rules, so that its removal changes them."""
    service = (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name")
    ends = piece.get("endpoints") or [{}]
    ready = ends[0].get("conditions", {}).get("ready") and "hints" not in ends[0]
    return bool(ready) and len(ends) > 1 and (piece["metadata"]["namespace"], service) in plain


class _Changes:
    """Releases events one by one, and waits for the kernel's notification."""

    def __init__(self, lab: Lab, daemon: Process) -> None:
        self._kernel = lab.namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
        self._kernel.bind((0, 0))  # a socket without an address receives no notifications
        self._kernel.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, GROUP_NFTABLES)
        self._kernel.settimeout(10)
        self._api = _api(lab)
        for _ in range(WARM_UP):  # includes markers
            self._ask("POST", "/control/step")
        daemon.says("full=false")
        time.sleep(SETTLED_SECONDS)
        while select.select([self._kernel], [], [], 0)[0]:
            self._kernel.recv(1 << 16)

    def one(self) -> float:
        """Seconds from requesting the next event to its transaction."""
        started = time.perf_counter()
        self._ask("POST", "/control/step")
        while not self._committed():
            pass
        return time.perf_counter() - started

    def round_trip(self) -> float:
        """Seconds for a request without effect."""
        started = time.perf_counter()
        self._ask("GET", "/control/status")
        return time.perf_counter() - started

    def _ask(self, method: str, path: str) -> dict:
        self._api.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
        return json.loads(self._api.getresponse().read())

    def _committed(self) -> bool:
        data, offset = self._kernel.recv(1 << 16), 0
        while offset + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if kind == NEWGEN:
                return True
            offset += (length + 3) & ~3
        return False


def _api(lab: Lab) -> http.client.HTTPConnection:
    """A connection to the API server."""
    sock = lab.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.connect(("127.0.0.1", API_PORT))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    api = http.client.HTTPConnection("127.0.0.1")
    api.sock = wrapped(sock)
    return api


def _worked(process: Process) -> float:
    """Seconds that the threads of a process have worked, to the microsecond; their waits for a CPU are not in it."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _status(daemon: Process, field: str) -> int:
    """KiB."""
    return int(re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{daemon.pid}/status").read_text())[1])


def _idle_share(daemon: Process) -> float:
    """Percent of one core over an idle period."""
    before = _cpu_ticks(daemon)
    time.sleep(IDLE_SECONDS)
    return (_cpu_ticks(daemon) - before) / IDLE_SECONDS  # a tick is a hundredth of a second, so this is percent


def _cpu_ticks(daemon: Process) -> int:
    fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
