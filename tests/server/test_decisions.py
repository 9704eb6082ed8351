"""The daemon's decisions without a machine: limits, health over time, retries, clean-up."""

from __future__ import annotations

import json
import os
import queue
import subprocess
from pathlib import Path

import pytest

from engine.addresses import format_network
from engine.server.api.client import ApiClient, ApiError, load_configuration
from engine.server.api.events import EventSender
from engine.server.api.node import NodeError, node_ips, wait_for_pod_cidr
from engine.server.api.service_cidrs import ServiceNetworks
from engine.server.api.throttle import Throttle
from engine.server.api.watching import ObjectChange
from engine.server.config.configuration import Conntrack
from engine.server.config.duration import Duration
from engine.server.config.settings import ProxyConfig
from engine.server.config.watchfile import WatchedFile
from engine.server.http.health import Health
from engine.server.http.pages import go_time
from engine.server.runtime import host, kernels, system
from engine.server.runtime.cleanup import removal
from engine.server.runtime.daemon import health_check_addresses

LOCAL = (bytes((192, 168, 0, 2)), bytes((10, 1, 0, 1)), bytes((127, 0, 0, 1)))
NOWHERE = ApiClient(load_configuration("", "http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("per_core", "minimum", "cpus", "limit"),
    [(0, 131072, 4, 0), (32768, 131072, 2, 131072), (32768, 131072, 8, 262144), (1, 0, 3, 3)],
)
def test_the_conntrack_limit_follows_the_configuration(per_core, minimum, cpus, limit):
    """CT-06: a minimum counts only where there is a limit a core."""
    assert system.conntrack_max(Conntrack(max_per_core=per_core, min=minimum), cpus) == limit


@pytest.mark.parametrize(
    ("per_core", "minimum", "before", "since"),
    [(2**20, 5, 2**20 * 2, 2**20), (2**20, 2**21 + 1, 2**21 + 1, 2**20), (2**19, 2**20 + 1, 2**20 + 1, 2**20 + 1)],
)
def test_the_limit_per_cpu_is_capped_since_1_36(per_core, minimum, before, since):
    """CT-06a: above the cap the minimum does not count any more."""
    settings = Conntrack(max_per_core=per_core, min=minimum)
    assert [system.conntrack_max(settings, 2, version) for version in ((1, 35), (1, 36))] == [before, since]


@pytest.mark.parametrize(("version", "left"), [((1, 36), "200000"), ((1, 37), "900000")])
def test_the_limit_is_only_raised_since_1_37(tmp_path, monkeypatch, version, left):
    """CT-06b."""
    (tmp_path / "net/netfilter").mkdir(parents=True)
    (tmp_path / "net/netfilter/nf_conntrack_max").write_text("900000\n")
    monkeypatch.setattr(host, "SYSCTL", tmp_path)
    monkeypatch.setattr(system, "HASH_SIZE", tmp_path / "none")
    monkeypatch.setattr(system, "_cpus", lambda: 2)
    monkeypatch.setattr(EventSender, "node_event", lambda *_: None)
    quiet = dict.fromkeys(("tcp_established_timeout", "tcp_close_wait_timeout"), Duration(0))
    system.set_conntrack(Conntrack(max_per_core=100_000, **quiet), EventSender(NOWHERE, "n1"), version)
    assert (tmp_path / "net/netfilter/nf_conntrack_max").read_text().strip() == left


@pytest.mark.parametrize(("listed", "cpus"), [("0\n", 1), ("0-3\n", 4), ("0-3,6,8-9\n", 7)])
def test_cpus_are_logical_ones_that_are_online(tmp_path, monkeypatch, listed, cpus):
    """CT-06a: not cores; where the machine does not list them, those of this process."""
    monkeypatch.setattr(system, "ONLINE", tmp_path / "online")
    assert system._cpus() == len(os.sched_getaffinity(0))
    system.ONLINE.write_text(listed)
    assert system._cpus() == cpus


def test_a_read_only_sys_is_reported_and_tolerated(tmp_path, monkeypatch):
    """CT-06: by an Event; the file is one that no one may write, and only in the machine's own namespace must it be."""
    (tmp_path / "net/netfilter").mkdir(parents=True)
    (tmp_path / "net/netfilter/nf_conntrack_max").write_text("9\n")
    monkeypatch.setattr(host, "SYSCTL", tmp_path)
    monkeypatch.setattr(system, "HASH_SIZE", Path("/sys/kernel/fscaps"))
    monkeypatch.setattr(system, "_cpus", lambda: 2)
    events: queue.Queue = queue.Queue()
    monkeypatch.setattr(EventSender, "node_event", lambda _, *event: events.put(event))
    quiet = dict.fromkeys(("tcp_established_timeout", "tcp_close_wait_timeout"), Duration(0))
    settings = Conntrack(max_per_core=100_000, **quiet)
    monkeypatch.setattr(system, "_foreign_namespace", lambda: True)
    system.set_conntrack(settings, EventSender(NOWHERE, "n1"))
    assert events.empty()
    monkeypatch.setattr(system, "_foreign_namespace", lambda: False)
    with pytest.raises(system.SetupError, match="could not set conntrack parameters from kube-proxy configuration"):
        system.set_conntrack(settings, EventSender(NOWHERE, "n1"))  # since 1.36 (CT-06b)
    system.set_conntrack(settings, EventSender(NOWHERE, "n1"), (1, 35))
    assert (tmp_path / "net/netfilter/nf_conntrack_max").read_text() == "200000\n"
    kind, reason, _, note = events.get_nowait()
    assert (kind, reason) == ("Warning", "readOnlySysFS")
    assert note.startswith("CRI error: /sys is read-only: cannot modify conntrack limits")


def test_timeouts_that_are_set_are_written(tmp_path, monkeypatch):
    """Whole seconds, and nothing for 0; tcpBeLiberal is never taken back (CT-07)."""
    folder = tmp_path / "net/netfilter"
    folder.mkdir(parents=True)
    names = ("tcp_timeout_established", "tcp_timeout_close_wait", "udp_timeout", "udp_timeout_stream", "tcp_be_liberal")
    for name in names:
        (folder / f"nf_conntrack_{name}").write_text("7\n")
    monkeypatch.setattr(host, "SYSCTL", tmp_path)
    settings = Conntrack(max_per_core=0, tcp_close_wait_timeout=Duration(0), udp_timeout=Duration.parse("90.5s"))
    system.set_conntrack(settings, None)
    written = {name: (folder / f"nf_conntrack_{name}").read_text().strip() for name in names}
    assert written == dict(zip(names, ("86400", "7", "90", "7", "7"), strict=True))
    system.set_conntrack(Conntrack(max_per_core=0, tcp_be_liberal=True), None)
    assert (folder / "nf_conntrack_tcp_be_liberal").read_text() == "1\n"


@pytest.mark.parametrize(
    ("qps", "burst", "waits"),
    [
        (5.0, 3, [0, 0, 0, 0.2, 0.2, 0, 0, 0, 0.2]),
        (0.0, 0, [0] * 9),
        (10.0, 1, [0, 0.1, 0.1, 0.1, 0.1, 0, 0.1, 0.1, 0.1]),
        (-1.0, 1, [0] * 9),
    ],
)
def test_the_request_rate_to_the_api(qps, burst, waits):
    """CFG-01's qps and burst: a burst at once, the rest one by one; a minute's rest fills the bucket."""
    now, waited = [100.0], []

    def sleep(seconds: float) -> None:
        waited[-1] = seconds
        now[0] += seconds

    throttle = Throttle(qps, burst, lambda: now[0], sleep)
    for number in range(len(waits)):
        waited.append(0.0)
        now[0] += 60 * (number == 5)
        throttle()
    assert waited == pytest.approx(waits)


def test_health_over_time():
    """HC-06: the oldest update that waits counts, by family; idleness is fine."""
    now = [100.0]
    health = Health(lambda: now[0], 30.0, (4, 6))
    now[0] += 1000
    assert health.healthy(), "idle before the first update"
    health.queued()
    now[0] += 50
    health.queued()
    now[0] += 9
    assert health.by_family()[4] == (0.0, True)
    assert health.healthy()
    now[0] += 1
    assert not health.healthy(), "the first has waited for 60 s"
    health.updated((4,))
    assert not health.healthy(), "of the other family"
    health.updated((6,))
    assert health.healthy()


class Clock:
    """Time that passes by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


class NodeApi:
    """Answers for the Node: each of `answers` once, the last one for ever; an ApiError is raised."""

    def __init__(self, *answers: dict | ApiError) -> None:
        self._answers = list(answers)

    def get(self, _path: str) -> bytes:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, ApiError):
            raise answer
        return json.dumps(answer).encode()


ABSENT, UNREACHABLE = ApiError("no such Node", 404), ApiError("connection refused")
BARE = {"metadata": {"name": "n1"}}
ADDRESSED = BARE | {"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}


def test_a_missing_node_is_requested_six_times():
    """CFG-20: each wait twice the last, with jitter; then loopback."""
    waits: list[float] = []
    seen, ips = node_ips(NOWHERE, "n1", "0.0.0.0", (1, 33), waits.append)
    assert seen is None
    assert ips.unknown
    assert len(waits) == 5
    assert all(2**n <= wait <= 2 ** (n + 1) for n, wait in enumerate(waits))
    waits.clear()
    assert node_ips(NOWHERE, "n1", "10.0.0.7", (1, 33), waits.append)[1].primary == bytes((10, 0, 0, 7))
    assert waits == []


@pytest.mark.parametrize("bind", ["0.0.0.0", "10.0.0.7"])
@pytest.mark.parametrize("absent", [ABSENT, BARE])
def test_a_node_without_an_address_is_waited_for_30_s(bind, absent):
    """CFG-20a: whatever the bind address; the API's first answer is waited for without end."""
    clock = Clock()
    seen, ips = node_ips(NodeApi(*[UNREACHABLE] * 1000, absent), "n1", bind, (1, 34), clock.sleep, clock)
    assert clock.now == 1030
    assert (seen is None) == (absent is ABSENT)
    assert ips.unknown == (bind == "0.0.0.0")


def test_a_node_whose_address_is_added_late():
    clock = Clock()
    answers = [UNREACHABLE, ABSENT, BARE, UNREACHABLE, ADDRESSED]
    seen, ips = node_ips(NodeApi(*answers), "n1", "0.0.0.0", (1, 37), clock.sleep, clock)
    assert (clock.now, ips.primary) == (4, bytes((10, 0, 0, 1)))
    assert seen.node.name == "n1"


@pytest.mark.parametrize(
    ("version", "answer", "words"),
    [
        ((1, 33), ABSENT, "timeout waiting for PodCIDR allocation to configure detect-local-mode NodeCIDR: "),
        ((1, 34), ABSENT, 'timeout waiting for node "n1" to exist'),
        ((1, 34), UNREACHABLE, 'timeout waiting for node "n1" to exist'),
        ((1, 37), ADDRESSED, 'timeout waiting for PodCIDR allocation on node "n1"'),
    ],
)
def test_pod_cidrs_that_are_never_assigned(version, answer, words):
    """DET-02, DET-02a: five minutes."""
    clock = Clock()
    with pytest.raises(NodeError, match=f"^{words}"):
        wait_for_pod_cidr(NodeApi(answer), "n1", version, clock.sleep, clock)
    assert clock.now == 300


@pytest.mark.parametrize(
    ("asked", "addresses"),
    [
        (None, ("",)),
        (("0.0.0.0/0",), ("",)),
        (("10.0.0.0/8",), ("10.1.0.1",)),
        (("primary",), ("192.168.0.2",)),
    ],
)
def test_where_health_check_ports_listen(asked, addresses):
    """HC-01."""
    config = ProxyConfig(node_port_addresses=asked, node_addresses=(LOCAL[0], bytes(15) + b"\1"))
    assert health_check_addresses(config, LOCAL) == addresses


def test_networks_of_services_add_up():
    """CIP-02: of all ServiceCIDRs; an invalid one is ignored, and does not affect the others."""
    networks = ServiceNetworks()

    def observe(kind: str, name: str, cidrs: object) -> list[str]:
        manifest = {"metadata": {"name": name}, "spec": {"cidrs": cidrs}}
        networks.observe(ObjectChange(kind, json.dumps(manifest).encode()))
        return [format_network(network) for network in networks.all]

    assert observe("ADDED", "a", ["10.96.0.0/16", "fd00::/112"]) == ["10.96.0.0/16", "fd00::/112"]
    assert observe("ADDED", "b", ["10.97.0.0/16"]) == ["10.96.0.0/16", "10.97.0.0/16", "fd00::/112"]
    for nonsense in (7, ["10.98.0.0/99"]):
        with pytest.raises(ValueError):
            observe("ADDED", "c", nonsense)
    assert observe("MODIFIED", "a", ["10.96.0.0/16"]) == ["10.96.0.0/16", "10.97.0.0/16"]
    assert observe("DELETED", "b", 7) == ["10.96.0.0/16"], "only the name counts"


def test_a_host_without_ipv6_has_one_family(monkeypatch):
    """DS-02: the leading family must be one that the host has."""
    monkeypatch.setattr(kernels, "has_ipv6", lambda: True)
    assert kernels.families("nftables", 6) == (6, 4)
    monkeypatch.setattr(kernels, "has_ipv6", lambda: False)
    assert kernels.families("nftables", 4) == (4,)
    with pytest.raises(kernels.PreflightError, match='no support for primary IP family "IPv6"'):
        kernels.families("nftables", 6)


@pytest.mark.parametrize("disabled", ["0", "1", None])
def test_disabled_ipv6_counts_as_absent(tmp_path, monkeypatch, disabled):
    """DS-02a; a kernel without the sysctl has it only by the list of addresses."""
    if disabled:
        (tmp_path / "net/ipv6/conf/all").mkdir(parents=True)
        (tmp_path / "net/ipv6/conf/all/disable_ipv6").write_text(f"{disabled}\n")
    monkeypatch.setattr(host, "SYSCTL", tmp_path)
    monkeypatch.setattr(host, "IPV6_ADDRESSES", tmp_path)
    assert host.has_ipv6() == (disabled != "1")
    monkeypatch.setattr(host, "IPV6_ADDRESSES", tmp_path / "none")
    assert not host.has_ipv6()


@pytest.mark.parametrize(("version", "uid"), [((1, 34), {"uid": "n1"}), ((1, 35), {})])
def test_the_object_of_an_event(monkeypatch, version, uid):
    """MET-11: since 1.35 without the name as uid."""
    sent: queue.Queue = queue.Queue()
    monkeypatch.setattr(EventSender, "_try", lambda _, event: sent.put(event))
    EventSender(NOWHERE, "n1", version).node_event("Normal", "Starting", "StartKubeProxy", "")
    assert sent.get(timeout=60)["regarding"] == {"kind": "Node", "name": "n1", "apiVersion": "v1"} | uid


def test_clean_up_removes_only_our_iptables_chains():
    """CLN-03, CLN-03a: jumps and chains that a proxy made; others' stay, and what others still point to is emptied."""
    saved = """*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ABC - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-XLB-OLD - [0:0]
:KUBE-SEP-OLD - [0:0]
:MINE - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -j MINE
-A KUBE-SERVICES -d 10.0.0.1/32 -j KUBE-SVC-ABC
-A KUBE-XLB-OLD -j KUBE-SEP-OLD
-A MINE -j KUBE-SEP-OLD
-A OUTPUT -j KUBE-MARK-MASQ
COMMIT
*filter
:INPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
COMMIT
"""
    assert (
        removal(saved, (1, 37))
        == """*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ABC - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-XLB-OLD - [0:0]
:KUBE-SEP-OLD - [0:0]
-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-X KUBE-SERVICES
-X KUBE-SVC-ABC
-X KUBE-XLB-OLD
COMMIT
*filter
:KUBE-PROXY-FIREWALL - [0:0]
-D INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-X KUBE-PROXY-FIREWALL
COMMIT
"""
    )
    before = removal(saved, (1, 33))
    assert ":KUBE-MARK-MASQ" not in before and "-X KUBE-PROXY-FIREWALL" not in before
    assert "-D INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL" in before, "no version leaves the jumps"


@pytest.mark.parametrize(("version", "reason"), [((1, 33), ""), ((1, 34), ": iptables: no such table")])
def test_a_host_without_iptables(monkeypatch, version, reason):
    """DS-02b: since 1.34 the tool's own error is part of it."""
    refused = subprocess.CompletedProcess([], 3, b"", b"iptables: no\nsuch table\n")
    monkeypatch.setattr(kernels, "detect", lambda _run: "nft")
    monkeypatch.setattr(kernels, "run", lambda _command: refused)
    with pytest.raises(kernels.PreflightError) as error:
        kernels.families("iptables", 4, version)
    assert str(error.value) == f"iptables is not available on this host{reason}"


def test_a_file_that_is_written_or_replaced_has_changed(tmp_path):
    """CFG-13; one that vanishes, or a link that is turned, has not."""
    (tmp_path / "v1").mkdir()
    file = tmp_path / "v1" / "config"
    file.write_text("a")
    (tmp_path / "data").symlink_to("v1")
    direct, linked = WatchedFile(str(file)), WatchedFile(str(tmp_path / "data" / "config"))
    assert not direct.changed()
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "config").write_text("b")
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to("v2")
    assert not linked.changed()
    file.unlink()
    assert not direct.changed()
    file.write_text("other")
    assert direct.changed()


def test_times_as_go_prints_them():
    """In /healthz."""
    assert go_time(0) == "0001-01-01 00:00:00 +0000 UTC"
    assert go_time(1.5) == "1970-01-01 00:00:01.5 +0000 UTC"
