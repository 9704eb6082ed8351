"""What the daemon decides without a machine: limits, health over time, retries, what is to be removed."""

from __future__ import annotations

import json
import queue
from pathlib import Path

import pytest

from engine.addresses import format_network
from engine.server import host, kernels, system
from engine.server.api import Api, load_configuration
from engine.server.cleanup import removal
from engine.server.configuration import Conntrack
from engine.server.daemon import health_check_addresses
from engine.server.duration import Duration
from engine.server.events import Recorder
from engine.server.health import Health
from engine.server.node import NodeError, node_ips, wait_for_pod_cidr
from engine.server.pages import go_time
from engine.server.service_cidrs import ServiceNetworks
from engine.server.settings import ProxyConfig
from engine.server.throttle import Throttle
from engine.server.watchfile import WatchedFile
from engine.server.watching import Change

LOCAL = (bytes((192, 168, 0, 2)), bytes((10, 1, 0, 1)), bytes((127, 0, 0, 1)))
NOWHERE = Api(load_configuration("", "http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("per_core", "minimum", "cpus", "limit"),
    [(0, 131072, 4, 0), (32768, 131072, 2, 131072), (32768, 131072, 8, 262144), (1, 0, 3, 3)],
)
def test_how_many_connections_may_be_tracked(per_core, minimum, cpus, limit):
    """CT-06: a minimum counts only where there is a limit a core."""
    assert system.conntrack_max(Conntrack(max_per_core=per_core, min=minimum), cpus) == limit


def test_a_read_only_sys_is_told_and_lived_with(tmp_path, monkeypatch):
    """CT-06: by an Event; the file is one that no one may write."""
    (tmp_path / "net/netfilter").mkdir(parents=True)
    (tmp_path / "net/netfilter/nf_conntrack_max").write_text("9\n")
    monkeypatch.setattr(host, "SYSCTL", tmp_path)
    monkeypatch.setattr(system, "HASH_SIZE", Path("/sys/kernel/fscaps"))
    monkeypatch.setattr(system, "_cpus", lambda: 2)
    events: queue.Queue = queue.Queue()
    monkeypatch.setattr(Recorder, "node_event", lambda _, *event: events.put(event))
    quiet = dict.fromkeys(("tcp_established_timeout", "tcp_close_wait_timeout"), Duration(0))
    system.set_conntrack(Conntrack(max_per_core=100_000, **quiet), Recorder(NOWHERE, "n1"))
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
def test_how_many_requests_the_api_gets(qps, burst, waits):
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
    assert health.healthy()
    now[0] += 1
    assert not health.healthy(), "the first has waited for 60 s"
    health.updated((4,))
    assert not health.healthy(), "of the other family"
    health.updated((6,))
    assert health.healthy()


def test_a_node_that_cannot_be_had_is_asked_for_six_times():
    """CFG-20: each wait twice the last, with jitter; then loopback."""
    waits: list[float] = []
    seen, ips = node_ips(NOWHERE, "n1", "0.0.0.0", waits.append)
    assert seen is None
    assert ips.unknown
    assert len(waits) == 5
    assert all(2**n <= wait <= 2 ** (n + 1) for n, wait in enumerate(waits))
    waits.clear()
    assert node_ips(NOWHERE, "n1", "10.0.0.7", waits.append)[1].primary == bytes((10, 0, 0, 7))
    assert waits == []


def test_pod_cidrs_that_never_come():
    """DET-02: five minutes."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(NodeError, match="timeout waiting for PodCIDR allocation"):
        wait_for_pod_cidr(NOWHERE, "n1", sleep, lambda: now[0])
    assert now[0] == 300


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
    """CIP-02: of all ServiceCIDRs; one that makes no sense counts for nothing, and takes no other along."""
    networks = ServiceNetworks()

    def observe(kind: str, name: str, cidrs: object) -> list[str]:
        manifest = {"metadata": {"name": name}, "spec": {"cidrs": cidrs}}
        networks.observe(Change(kind, json.dumps(manifest).encode()))
        return [format_network(network) for network in networks.all]

    assert observe("ADDED", "a", ["10.96.0.0/16", "fd00::/112"]) == ["10.96.0.0/16", "fd00::/112"]
    assert observe("ADDED", "b", ["10.97.0.0/16"]) == ["10.96.0.0/16", "10.97.0.0/16", "fd00::/112"]
    for nonsense in (7, ["10.98.0.0/99"]):
        with pytest.raises(ValueError):
            observe("ADDED", "c", nonsense)
    assert observe("MODIFIED", "a", ["10.96.0.0/16"]) == ["10.96.0.0/16", "10.97.0.0/16"]
    assert observe("DELETED", "b", []) == ["10.96.0.0/16"]


def test_a_host_without_ipv6_has_one_family(monkeypatch):
    """DS-02: the leading family must be one that the host has."""
    monkeypatch.setattr(kernels, "has_ipv6", lambda: True)
    assert kernels.families("nftables", 6) == (6, 4)
    monkeypatch.setattr(kernels, "has_ipv6", lambda: False)
    assert kernels.families("nftables", 4) == (4,)
    with pytest.raises(kernels.PreflightError, match='no support for primary IP family "IPv6"'):
        kernels.families("nftables", 6)


def test_what_is_removed_of_iptables_and_what_is_kept():
    """CLN-03: jumps and chains that a proxy made; others' and those that may be shared stay."""
    saved = """*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ABC - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:MINE - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -j MINE
-A KUBE-SERVICES -d 10.0.0.1/32 -j KUBE-SVC-ABC
COMMIT
*filter
:INPUT ACCEPT [0:0]
COMMIT
"""
    assert (
        removal(saved)
        == """*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ABC - [0:0]
-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-X KUBE-SERVICES
-X KUBE-SVC-ABC
COMMIT
"""
    )


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
