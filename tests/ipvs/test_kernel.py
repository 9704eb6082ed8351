"""Behaviour of a kernel with IP_VS, in a virtual machine: starts, foreign servers, graceful termination."""

from __future__ import annotations

import json
import platform
import socket
import time

import pytest

from engine.addresses import parse_network
from engine.config import ProxyConfig
from engine.kernel.interface import KernelError
from engine.kernel.ipvs import IpvsKernel
from harness.conformance.corpus.clusters import CIP, E1, E2, EXT, LB, NODE, end, service, slice_
from harness.judge.oracle.settings import packed
from harness.judge.readback.compare import compare
from harness.modes import ipvs
from harness.places.namespace import Namespace

from .node import IpvsNode, observe

pytestmark = pytest.mark.vm

NODES = (packed(NODE), packed("2001:db8::1"))
CONFIG = ProxyConfig(node_addresses=NODES, local_addresses=NODES)
PAIR = ("-t", f"{CIP}:80")


def config(**changes) -> ProxyConfig:
    return ProxyConfig(node_addresses=NODES, local_addresses=NODES, **changes)


def added(*manifests: dict, kind: str = "ADDED") -> list[tuple[str, str, bytes]]:
    names = {"Service": "services", "EndpointSlice": "endpointslices"}
    return [(kind, names[manifest["kind"]], json.dumps(manifest).encode()) for manifest in manifests]


WEB = added(service(), slice_(end(E1), end(E2)))
SERVER = (packed(CIP), 6, 80)


def weights(node: IpvsNode) -> dict[str, int]:
    """Of the Service's destinations, by address."""
    return {socket.inet_ntoa(address): weight for (address, _), weight in node.held().servers[SERVER].items()}


def test_the_node_is_set_up(node):
    """IPVS-01, IPVS-02, IPVS-03, IPVS-10: device, sysctls, timeouts, sets."""
    node.proxier(
        config(ipvs_strict_arp=True, ipvs_tcp_timeout_seconds=901, ipvs_udp_timeout_seconds=301), WEB, node.kernel
    )
    assert "state DOWN" in node.command("ip", "-o", "link", "show", "dev", "kube-ipvs0"), "never brought up"
    wanted = {"net.ipv4.vs.conntrack": 1, "net.ipv4.vs.expire_nodest_conn": 1, "net.ipv4.ip_forward": 1,
              "net.ipv4.vs.expire_quiescent_template": 1, "net.ipv4.conf.all.arp_ignore": 1,
              "net.ipv4.conf.all.arp_announce": 2}  # fmt: skip
    assert {name: int(node.command("sysctl", "-n", name)) for name in wanted} == wanted
    tcp, fin, udp = node.command("ipvsadm", "-l", "--timeout").split()[-3:]
    assert (tcp, udp) == ("901", "301") and fin != "0", "what is 0 is left alone"
    saved = node.command("ipset", "save")
    created = {line.split()[1]: line for line in saved.splitlines() if line.startswith("create KUBE-")}
    assert len([name for name in created if not name.startswith("KUBE-6-")]) == 17
    assert "maxelem 1048576" in created["KUBE-CLUSTER-IP"] and "range 0-65535" in created["KUBE-NODE-PORT-TCP"]
    assert "family inet6" in created["KUBE-6-CLUSTER-IP"]
    reuse = (4, 1) <= tuple(map(int, platform.release().split(".")[:2])) < (5, 9)
    assert reuse or node.command("sysctl", "-n", "net.ipv4.vs.conn_reuse_mode").strip() == "1", "newer kernels keep it"


def test_an_address_is_bound_as_long_as_a_port_needs_it(node):
    """IPVS-01: per address, not per port; strange ones are taken off at the start."""
    two = service(ports=[("http", "TCP", 80, 0), ("dns", "UDP", 53, 0)], externalIPs=[EXT])
    node.command("ip", "address", "replace", "172.30.8.8/32", "dev", "kube-ipvs0")
    proxier = node.proxier(CONFIG, added(two))
    assert node.held().addresses == {packed(CIP), packed(EXT)}
    observe(proxier, added(service(ports=[("dns", "UDP", 53, 0)]), kind="MODIFIED"))
    assert node.held().addresses == {packed(CIP)}
    observe(proxier, added(service(), kind="DELETED"))
    assert node.held().addresses == set() and node.held().servers == {}


def test_a_restart_keeps_what_is_wanted_and_resets_weights(node):
    """IPVS-07, IPVS-09, INV-03: servers and destinations stay, others go, but not those on excluded networks."""
    node.proxier(CONFIG, WEB)
    node.command("ipvsadm", "-e", *PAIR, "-r", f"{E1}:80", "-m", "-w", "0")
    for foreign in ("198.51.100.1:80", "203.0.113.1:80"):
        node.command("ipvsadm", "-A", "-t", foreign, "-s", "rr")
    node.command("ipvsadm", "-a", *PAIR, "-r", "10.180.9.9:80", "-m")
    excluding = config(ipvs_exclude_networks=(parse_network("203.0.113.0/24"),))
    proxier = node.proxier(excluding, WEB)
    assert weights(node) == {E1: 1, E2: 1}
    assert node.held().servers.keys() == {SERVER, (packed("203.0.113.1"), 6, 80)}
    node.command("ipvsadm", "-e", *PAIR, "-r", f"{E1}:80", "-m", "-w", "7")
    observe(proxier, added(service(name="s2", ip="172.30.0.42")))
    assert weights(node) == {E1: 7, E2: 1}, "only the first sync after a start resets them"
    node.command("ipvsadm", "-D", "-t", "203.0.113.1:80")


def test_schedulers(node):
    """IPVS-05: any that the kernel has, for all servers; a new one changes those that stand."""
    for scheduler, options in (("mh", "-s mh -b mh-port"), ("rr", "-s rr")):
        node.proxier(config(ipvs_scheduler=scheduler), WEB)
        assert node.held().options[SERVER] == options
        assert weights(node) == {E1: 1, E2: 1}


def test_a_missing_scheduler_is_detected_first(node):
    """IPVS-04: nothing of it stays behind."""
    with pytest.raises(KernelError, match="can't use the IPVS proxier: no scheduler 'nosuch'"):
        node.proxier(config(ipvs_scheduler="nosuch"), WEB)
    assert "198.51.100.0" not in node.command("ipvsadm", "-Sn")


def test_affinity_is_changed_in_place(node):
    """AFF-05: a flag with a timeout on every virtual server, none without; servers are not created again."""
    sticky = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}}
    proxier = node.proxier(CONFIG, added(service(externalIPs=[EXT]), slice_(end(E1))))
    before = node.kernel._dump_servers()
    observe(proxier, added(service(externalIPs=[EXT], **sticky), kind="MODIFIED"))
    options = node.held().options
    assert {options[SERVER], options[packed(EXT), 6, 80]} == {"-s rr -p 600"}
    observe(proxier, added(service(externalIPs=[EXT]), kind="MODIFIED"))
    assert node.held().options[SERVER] == "-s rr" and node.kernel._dump_servers() == before


def test_incremental_state_equals_state_from_scratch(node):
    """IPVS-21: what the kernel holds after many changes is what it holds after a start with their sum."""
    full = service("LoadBalancer", externalIPs=[EXT], lb=[LB], externalTrafficPolicy="Local")
    path = [service(), slice_(end(E1, "n1")), full, slice_(end(E2), end(E1, "n1")), service("NodePort"),
            service(name="s2", ip="172.30.0.42"), full, slice_(end(E2, "n1"))]  # fmt: skip
    proxier = node.proxier(CONFIG)
    for manifest in path:
        observe(proxier, added(manifest, kind="MODIFIED"))
    stepwise = node.held()
    node.memory = ipvs.memory()
    node.proxier(CONFIG, added(full, slice_(end(E2, "n1")), service(name="s2", ip="172.30.0.42")))
    at_once = node.held()
    assert stepwise == at_once and node.differences() == []
    assert compare(node.memory.view.behaviour(4), node.view.behaviour(4)) == []


@pytest.fixture
def backend(node):
    """A namespace with a real server's address behind the node; a listening TCP socket there."""
    with Namespace(beside=node.world.node) as far:
        node.command("ip", "link", "add", "real0", "type", "veth", "peer", "name", "real0", "netns", str(far.pid))
        for here, address in ((node.place.run, "10.181.0.1/24"), (far.run, "10.181.0.2/24")):
            script = f"address add {address} dev real0\nlink set real0 up\n"
            assert here(["ip", "-batch", "-"], script.encode()).returncode == 0
        far.run(["ip", "route", "add", "default", "via", "10.181.0.1"])
        listener = far.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.settimeout(20)
        listener.bind(("10.181.0.2", 80))
        listener.listen()
        yield listener
        listener.close()
    node.place.run(["ip", "link", "delete", "real0"], b"")


def test_a_connection_outlives_its_endpoint(node, backend):
    """IPVS-08, CMP-15: weight 0 while it lasts, deleted after, at once where there is none."""
    real, there = "10.181.0.2", added(slice_(end("10.181.0.2"), end(E1)), kind="MODIFIED")
    gone = added(slice_(end(E2)), kind="MODIFIED")
    proxier = node.proxier(CONFIG, [*added(service()), *added(slice_(end(real)))])
    with node.place.make_socket(socket.AF_INET, socket.SOCK_STREAM, 0) as client:
        client.settimeout(20)
        client.connect((CIP, 80))
        server, _ = backend.accept()
        observe(proxier, there)
        observe(proxier, gone)
        assert weights(node) == {real: 0, E2: 1}, "the one without connections went at once"
        assert node.kernel.terminate() == 1, "it still waits"
        client.sendall(b"still there")
        assert server.recv(64) == b"still there"
        observe(proxier, there)
        assert weights(node)[real] == 1 and node.kernel.terminate() == 0, "it came back and waits no more"
        observe(proxier, gone)
        assert weights(node)[real] == 0
        node.command("ipvsadm", "--set", "1", "1", "1")  # a connection idle for a second is forgotten
        client.sendall(b"good bye")
        assert server.recv(64) == b"good bye"
        wait_until_nothing_waits(node)
        server.close()
    node.command("ipvsadm", "--set", "900", "120", "300")
    assert weights(node) == {E2: 1}


def test_a_restart_with_a_destination_pending_deletion(node, backend):
    """INV-03, IPVS-07: a proxy that restarts while destinations drain uses them again, or lets them drain."""
    proxier = node.proxier(CONFIG, [*added(service()), *added(slice_(end("10.181.0.2")))])
    with node.place.make_socket(socket.AF_INET, socket.SOCK_STREAM, 0) as client:
        client.settimeout(20)
        client.connect((CIP, 80))
        with backend.accept()[0]:
            observe(proxier, added(slice_(end(E2)), kind="MODIFIED"))
            node.proxier(CONFIG, [*added(service()), *added(slice_(end("10.181.0.2")))])
            assert weights(node) == {"10.181.0.2": 1}
            node.proxier(CONFIG, WEB)
            assert weights(node) == {E1: 1, E2: 1, "10.181.0.2": 0} and node.kernel.terminate() == 1
            node.proxier(CONFIG)
            assert node.held().servers == {} and node.kernel.terminate() == 0


def wait_until_nothing_waits(node: IpvsNode) -> None:
    """IP_VS forgets the connection by its own clock, then the destination goes."""
    deadline = time.monotonic() + 60
    while node.kernel.terminate():
        assert time.monotonic() < deadline, "the connection was never forgotten"
        time.sleep(0.1)


def test_sets_of_another_proxy_are_replaced(node):
    """INV-03: whatever their size and content; those that are as they should be stay the same sets."""
    node.proxier(CONFIG, WEB)
    node.command("ipset", "add", "KUBE-CLUSTER-IP", "172.30.9.9,tcp:9")
    node.command("ipset", "create", "KUBE-REPLACEMENT", "hash:ip")
    node.command("ipset", "create", "KUBE-SMALL", "hash:ip,port", "maxelem", "65536")
    node.command("ipset", "swap", "KUBE-SMALL", "KUBE-EXTERNAL-IP")
    before = _initvals(node)
    node.proxier(CONFIG, WEB)
    after = _initvals(node)
    assert {name for name in before if after.get(name) != before[name]} == {
        "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-REPLACEMENT",
    }  # fmt: skip
    node.command("ipset", "destroy", "KUBE-SMALL")
    assert node.differences() == []


def _initvals(node: IpvsNode) -> dict[str, str]:
    """What distinguishes a set from another of the same name: the seed of its hash, of IPv4's."""
    lines = [line for line in node.command("ipset", "save").splitlines() if line.startswith("create KUBE-")]
    return {line.split()[1]: line.rpartition(" ")[2] for line in lines if not line.startswith("create KUBE-6-")}


SETS = (
    "LOOP-BACK", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL", "LOAD-BALANCER", "LOAD-BALANCER-FW",
    "LOAD-BALANCER-LOCAL", "LOAD-BALANCER-SOURCE-IP", "LOAD-BALANCER-SOURCE-CIDR", "NODE-PORT-TCP",
    "NODE-PORT-LOCAL-TCP", "NODE-PORT-UDP", "NODE-PORT-LOCAL-UDP", "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-SCTP-HASH", "HEALTH-CHECK-NODE-PORT", "IPVS-IPS",
)  # fmt: skip


def test_another_proxy_takes_over_and_back(node):
    """IPVS-09, IPVS-10: it empties the chains and sets that it knows, and clears the servers; nothing else is left."""
    for _ in range(2):
        node.proxier(CONFIG, WEB)
        assert node.differences() == []
        sets = {line.split()[1] for line in node.command("ipset", "save").splitlines() if line.startswith("create")}
        assert {name for name in sets if not name.startswith("KUBE-6-")} == {f"KUBE-{name}" for name in SETS}
        for table in ("nat", "filter"):
            saved = node.command("iptables-save", "-t", table).splitlines()
            for chain in (line[1:].split()[0] for line in saved if line.startswith(":KUBE-")):
                node.command("iptables", "-t", table, "-F", chain)
        for name in SETS:
            node.command("ipset", "flush", f"KUBE-{name}")
        node.command("ipvsadm", "-C")
        node.command("ip", "address", "flush", "dev", "kube-ipvs0")


def test_checking_for_rules_creates_none(node):
    """Once a period, in every node: the variant of iptables is found out at the start alone."""
    asked: list[list[str]] = []

    def run(command: list[str], stdin: bytes = b""):
        asked.append(command)
        return node.place.run(command, stdin)

    kernel = IpvsKernel(node.place.make_socket, run)
    asked.clear()
    kernel.intact(4)
    kernel.close()
    assert asked and all({"-N", "-X", "restore"}.isdisjoint(command) for command in asked)


def test_a_probe_finds_every_feature_and_leaves_nothing(node):
    kernel = IpvsKernel(node.place.make_socket, node.place.run)
    before = [node.command("ipset", "list", "-n"), node.command("ip", "-br", "link")]
    assert kernel.missing((4, 6)) is None
    assert [node.command("ipset", "list", "-n"), node.command("ip", "-br", "link")] == before
    kernel.close()
