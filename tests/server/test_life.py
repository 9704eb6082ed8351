"""Start, restart, interference and end of the daemon: effects on rules and traffic."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.conformance.corpus.clusters import end, node, service, slice_
from tests.server.lab import API_PORT, HEALTHZ, SERVICES, Lab, enter, eventually

OBJECTS = [node(), service(), slice_(end("10.180.0.1", "n1"))]
TRAFFIC = str(Path(__file__).with_name("traffic.py"))
CHAIN = ["nft", "list", "chain", "ip", "kube-proxy", "services"]


@pytest.fixture
def traffic(namespace):
    """Starts a server at the endpoint, and gives a function that starts a caller of the cluster IP."""
    for command in (
        "ip address add 10.180.0.1/32 dev lo",
        "ip route add 172.30.0.0/16 dev lo src 192.168.0.2",
    ):
        assert namespace.run(command.split()).returncode == 0, command
    started = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [*enter(namespace), sys.executable, TRAFFIC, *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process

    start("serve", "10.180.0.1", "80")
    yield lambda: start("call", "172.30.0.41", "80")
    for process in started:
        process.kill()
        process.wait()


def finished(caller: subprocess.Popen) -> tuple[int, int, str]:
    """(connections, failures, what failed) of a caller after it was stopped."""
    out, errors = caller.communicate(timeout=60)
    count, failed = map(int, out.split()[-2:])
    return count, failed, errors.decode()


@pytest.mark.parametrize(
    ("lab", "hard"), [("nftables", False), ("nftables", True), ("iptables", True)], indirect=["lab"]
)
def test_a_restart_loses_no_connection(lab, traffic, hard):
    """Rules stay when the process ends (CLN-05), and their replacement has no gap (INV-03)."""
    daemon = lab.start(OBJECTS)
    caller = traffic()
    daemon.end(hard)
    assert lab.differences() == []
    for _ in range(2):
        daemon = lab.daemon()
        daemon.says('"Started"')
        assert daemon.end() == 0
    count, failed, errors = finished(caller)
    assert failed == 0, errors
    assert count > 100
    assert lab.differences() == []
    assert b"shadow" not in lab.namespace.run(["nft", "list", "tables"]).stdout


def test_killed_while_the_table_is_replaced(lab, traffic):
    """Whenever the process dies in its first sync, the next one finishes, and nothing is lost in between."""
    daemon = lab.start(OBJECTS)
    caller = traffic()
    daemon.end()
    lab.slow_nft()
    tables = ["nft", "list", "tables", "ip"]
    for _ in range(4):
        daemon = lab.daemon()
        eventually(lambda: b"shadow" in lab.namespace.run(tables).stdout, "a replacement under way")
        daemon.end(hard=True)
    lab.daemon()
    eventually(lambda: b"shadow" not in lab.namespace.run(tables).stdout, "the replacement's end")
    lab.converges()
    _, failed, errors = finished(caller)
    assert failed == 0, errors


def test_killed_in_its_very_first_sync(lab):
    """The half table that remains has no hooks, and the next process replaces it."""
    lab.record(OBJECTS)
    lab.serve()
    lab.slow_nft()
    listed = ["nft", "-t", "list", "table", "ip", "kube-proxy"]
    daemon = lab.daemon()
    # The check of features is seen for a moment too, without the flag.
    eventually(lambda: b"flags dormant" in lab.namespace.run(listed).stdout, "the beginning of a table")
    daemon.end(hard=True)
    assert b"flags dormant" in lab.namespace.run(listed).stdout, daemon.text()
    lab.daemon()
    lab.converges()
    assert b"flags dormant" not in lab.namespace.run(listed).stdout


DAMAGE = {
    "flush ruleset": 2,
    "flush table ip kube-proxy": 1,
    "delete table ip6 kube-proxy": 1,
    "flush chain ip kube-proxy services": 1,
}
"""How many families each makes write everything."""


def _gone(daemon) -> int:
    """How many families were found without rules: damage may come between the looks at one and at the other."""
    losses = re.findall(r'Rules have been removed.*families="\[(.*?)\]"', daemon.text())
    return sum(len(found.split(",")) for found in losses)


def test_rules_flushed_behind_its_back(lab):
    """Found by the canary within syncPeriod, once each, though nothing else changes (INV-07)."""
    daemon = lab.start(OBJECTS, periods={"syncPeriod": "1s"})
    full = 2
    for damage, families in DAMAGE.items():
        full += families
        assert lab.namespace.run(["nft", damage]).returncode == 0
        eventually(lambda full=full: _gone(daemon) == full - 2, damage)
        eventually(lambda full=full: daemon.count("full=true") == full, "a full sync of what is gone")
        lab.converges()
        assert lab.namespace.run(CHAIN).stdout.count(b"\n") > 5
    assert _gone(daemon) == sum(DAMAGE.values())
    assert daemon.count("full=true") == full, "and of nothing else"


STOPPED = "kill -STOP $$"
"""A tool that neither ends nor answers, nor would do anything at SIGTERM."""


def test_a_tool_that_hangs_does_not_outlast_the_daemon(lab):
    """SIGTERM gets through to it."""
    daemon = lab.start(OBJECTS, periods={"syncPeriod": "1s"})
    lab.instead_of("nft", STOPPED)
    assert lab.namespace.run(["nft", "delete table ip kube-proxy"]).returncode == 0
    eventually(lambda: psutil.Process(daemon.pid).children(), "the call of nft")
    assert daemon.end() == 0
    daemon.says("timed out")


@pytest.mark.parametrize(
    ("mode", "tool"),
    [("nftables", "nft"), ("iptables", "ip6tables-nft-save"), ("iptables", "iptables-nft-restore")],
)
def test_a_tool_that_hangs_ends_the_start(tmp_path, namespace, certificate, mode, tool):
    """It is named, after one wait rather than one for each thing that it is asked."""
    with Lab(tmp_path, namespace, certificate, mode) as lab:
        (tmp_path / "sitecustomize.py").write_text("import engine.kernel.tools as t\nt.SECONDS = 2.0\n")
        lab.record(OBJECTS)
        lab.serve()
        lab.instead_of(tool, STOPPED)
        daemon = lab.daemon(environment={"PYTHONPATH": str(tmp_path)})
        assert daemon.popen.wait(60) == 1
        daemon.says(f"{tool} timed out after 2 s")
        assert daemon.count("timed out") == 1


def test_a_broken_family_does_not_affect_the_other(lab):
    """IPv4 is written once and follows changes, however often IPv6 is refused; then both are as they should be."""
    daemon = lab.start(OBJECTS, [("MODIFIED", slice_(end("10.180.2.1")))], periods={"syncPeriod": "1s"})
    lab.forbid_ipv6()
    assert lab.namespace.run(["nft", "delete table ip6 kube-proxy"]).returncode == 0
    eventually(lambda: daemon.count("Sync failed") >= 3, "retries of IPv6")
    lab.step()
    eventually(lambda: lab.differences() == ["IPv6 is not programmed"], "IPv4 follows")
    full = 'kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv%d"}'
    counted = lab.metrics()
    assert counted[full % 4] == 1
    assert counted[full % 6] >= 4
    assert counted['kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"}'] == 0
    eventually(lambda: lab.says(HEALTHZ, "/healthz", 503), "IPv6 has waited too long")
    lab.allow_nft()
    lab.converges()
    eventually(lambda: lab.says(HEALTHZ, "/healthz", 200), "well again")
    assert lab.metrics()[full % 4] == 1


def test_tables_flushed_in_mode_iptables(lab):
    """The canary chains tell (SYNC-05); a jump alone that is gone is not noticed."""
    lab.mode = "iptables"
    lab.record(OBJECTS)
    lab.serve()
    daemon = lab.daemon(periods={"syncPeriod": "1s"})
    daemon.says('"Started"')
    tool = next(name for name in ("iptables-nft", "iptables-legacy") if "KUBE-SVC" in rules_of(lab, name))
    for table in ("nat", "filter", "mangle"):
        for action in ("-F", "-X"):
            assert lab.namespace.run([tool, "-t", table, action]).returncode == 0
    daemon.says("Rules have been removed")
    eventually(lambda: "KUBE-SVC" in rules_of(lab, tool) and "-j KUBE-SERVICES" in rules_of(lab, tool), "the rules")


@pytest.mark.parametrize("by", ["configuration", "sysctl"])
def test_a_liberal_kernel_drops_no_invalid_packets(lab, by):
    """MASQ-03: whether the configuration says so or the kernel did before the start."""
    lab.mode = "iptables"
    lab.record(OBJECTS)
    lab.serve()
    if by == "sysctl":
        assert lab.namespace.run(["sysctl", "-w", "net.netfilter.nf_conntrack_tcp_be_liberal=1"]).returncode == 0
    daemon = lab.daemon(conntrack={"maxPerCore": 0, "tcpBeLiberal": by == "configuration"})
    daemon.says("not installing DROP rules for INVALID packets")
    daemon.says("full=true")
    rules = rules_of(lab, "iptables-nft") + rules_of(lab, "iptables-legacy")
    assert "KUBE-FORWARD" in rules and "INVALID" not in rules


def rules_of(lab, tool: str) -> str:
    """What a variant of iptables-save prints."""
    return lab.namespace.run([f"{tool}-save"]).stdout.decode()


def test_elements_flushed_behind_its_back(lab):
    """A change that the kernel refuses makes the next sync a full one (SYNC-04, SYNC-10, DS-04)."""
    daemon = lab.start(OBJECTS, [("MODIFIED", slice_(end("10.180.2.1")))], periods={"syncPeriod": "1s"})
    lab.namespace.run(["nft", "flush map ip kube-proxy tcp-endpoints"])
    lab.step()
    daemon.says("Sync failed")
    lab.converges()
    failures = lab.metrics()
    assert failures['kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"}'] == 1
    assert failures['kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv6"}'] == 0


def test_a_configuration_that_changes_ends_the_process(lab):
    """A supervisor restarts it (CFG-13)."""
    daemon = lab.start(OBJECTS)
    lab.config_file.write_text(lab.config_file.read_text() + "\n")
    assert daemon.popen.wait(60) == 1
    daemon.says("content of the proxy server's configuration file was updated")
    assert lab.differences() == []


def test_init_only_and_cleanup(lab):
    """The one programs nothing (CLN-04), the other leaves nothing, of any mode (CLN-02, CLN-03)."""
    run = lab.namespace.run
    lab.record(OBJECTS)
    lab.serve()
    daemon = lab.daemon("--init-only")
    assert daemon.popen.wait(60) == 0
    daemon.says("System initialized and --init-only specified")
    assert run(["nft", "list", "tables"]).stdout == b""
    for mode in ("iptables", "nftables", "iptables"):
        lab.mode = mode
        daemon = lab.daemon()
        daemon.says('"Started"')
        if mode == "iptables":
            assert lab.metrics()['kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"}'] >= 10
        assert daemon.end() == 0
        rules = run(["iptables-save"]).stdout + run(["iptables-legacy-save"]).stdout
        assert (b"KUBE-SVC" in rules) == (mode == "iptables"), "the other mode's are removed (CLN-01)"
        assert (b"kube-proxy" in run(["nft", "list", "tables"]).stdout) == (mode == "nftables")
    assert lab.daemon("--cleanup").popen.wait(60) == 0
    rules = run(["iptables-save"]).stdout + run(["iptables-legacy-save"]).stdout
    left = {line.split()[0][1:] for line in rules.decode().splitlines() if line.startswith(":KUBE")}
    assert left == {"KUBE-FIREWALL"}, "no chains that others once shared (CLN-03a)"
    assert lab.daemon("--cleanup").popen.wait(60) == 0, "nothing there is no failure"


NODE_PORT = service("NodePort", ports=[("http", "TCP", 80, 30080), ("dns", "UDP", 53, 30053)])


def moved(address: str) -> dict:
    """The node with another IPv4 address."""
    addresses = [{"type": "InternalIP", "address": a} for a in (address, "2001:db8::1")]
    return node(status={"addresses": addresses})


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            ("MODIFIED", moved("192.168.0.7")),
            "have changed: from 192.168.0.2, 2001:db8::1 to 192.168.0.7, 2001:db8::1",
        ),
        (("DELETED", node()), "this node's Node object was deleted"),
    ],
)
def test_a_node_that_changes_its_addresses_or_is_deleted_ends_the_process(lab, event, words):
    """Exit code 1, since 1.37 (CLN-07); other changes of the Node do not."""
    labelled = node("a", spec={"taints": [{"key": "k", "effect": "NoSchedule"}]})
    daemon = lab.start([node(), NODE_PORT, OBJECTS[2]], [("MODIFIED", labelled), event])
    lab.step()
    lab.converges()
    assert daemon.popen.poll() is None
    lab.step()
    assert daemon.popen.wait(60) == 1
    daemon.says(words)


@pytest.mark.parametrize("lab", ["nftables", "iptables"], indirect=True)
def test_before_1_37_node_ports_follow_the_nodes_address(lab):
    """It is logged, as by kube-proxy, whose node ports stay where they were; a deleted Node changes nothing."""
    lab.record([node(), NODE_PORT, OBJECTS[2]], [("MODIFIED", moved("192.168.0.7")), ("DELETED", node())])
    lab.serve()
    daemon = lab.daemon("--kube-version", "1.36", nodePortAddresses=["primary"])
    daemon.says('"Started"')
    rules = {
        "nftables": ["nft", "list", "set", "ip", "kube-proxy", "nodeport-ips"],
        "iptables": ["iptables-save", "-t", "nat"],
    }[lab.mode]
    taken = "{}" if lab.mode == "nftables" else "-d {}/32"
    listed = lambda: lab.namespace.run(rules).stdout.decode()  # noqa: E731
    eventually(lambda: taken.format("192.168.0.2") in listed(), "node ports on the first address")
    lab.step()
    eventually(lambda: taken.format("192.168.0.7") in listed(), "node ports on the new address")
    assert taken.format("192.168.0.2") not in listed()
    daemon.says("Continuing although the addresses of this node's Node object have changed")
    lab.step()
    daemon.says("Continuing although this node's Node object was deleted")
    assert taken.format("192.168.0.7") in listed()
    assert daemon.popen.poll() is None


def test_node_cidr_waits_for_pod_cidrs(lab):
    """A later change of them ends the process (DET-02)."""
    lab.record([node(), *OBJECTS[1:]], [("MODIFIED", with_pods("10.0.0.0/8")), ("MODIFIED", with_pods("10.1.0.0/16"))])
    lab.serve()
    daemon = lab.daemon(detectLocalMode="NodeCIDR", clusterCIDR="")
    daemon.says("Waiting for podCIDR")
    assert daemon.end() == 0, "one that waits ends as one that runs"
    daemon = lab.daemon(detectLocalMode="NodeCIDR", clusterCIDR="")
    daemon.says("Waiting for podCIDR")
    assert daemon.popen.poll() is None
    lab.step()
    daemon.says("Using nftables proxy")
    daemon.says("Synced proxy rules")
    lab.step()
    assert daemon.popen.wait(60) == 1


def with_pods(network: str) -> dict:
    """The node with a pod CIDR."""
    return node(spec={"podCIDR": network, "podCIDRs": [network]})


def test_a_missing_kernel_feature_ends_the_start(tmp_path, namespace, certificate):
    """No fallback to another mode (MODE-03, IPVS-04), not before the module that may be missing was asked for."""
    with Lab(tmp_path, namespace, certificate) as lab:
        lab.record(OBJECTS)
        lab.serve()
        lab.mode = "ipvs"
        lab.instead_of("modprobe", f'echo "$@" >> {tmp_path}/modules')
        daemon = lab.daemon()
        assert daemon.popen.wait(60) == 1
        daemon.says("can't use the IPVS proxier")
        assert "--quiet ip_vs\n" in (tmp_path / "modules").read_text()


def test_an_nft_that_is_too_old_ends_the_start(lab):
    """NFT-02, CMP-18, CMP-19."""
    lab.record(OBJECTS)
    lab.serve()
    lab.old_nft()
    daemon = lab.daemon()
    assert daemon.popen.wait(60) == 1
    daemon.says("nftables mode needs nft 1.0.1 or later: nftables v0.9.8")


def test_what_a_start_does_to_the_machine(lab):
    """Sysctls (CT-06, CT-07), an Event (CLN-06), networks of Services in the first sync already (NFT-09)."""
    conntrack = {"maxPerCore": 1_000_000, "tcpEstablishedTimeout": "1h", "tcpBeLiberal": True}
    daemon = lab.start(OBJECTS, conntrack=conntrack)
    read = "/proc/sys/net/netfilter/nf_conntrack_"
    values = lab.namespace.run(["cat", f"{read}tcp_timeout_established", f"{read}tcp_be_liberal"]).stdout
    assert values.split() == [b"3600", b"1"]
    daemon.says("Cannot be set in this network namespace")
    eventually(lambda: "Starting" in lab.events(), "the Event")
    chain = lab.namespace.run(["nft", "list", "chain", "ip", "kube-proxy", "service-check"]).stdout
    assert f"ip daddr {SERVICES} drop".encode() in chain
    assert daemon.count("full=true") == 2, "one per family"


def test_sigint_ends_the_daemon_at_once(lab):
    """SIGINT ends as SIGTERM does, at once, though watches are open."""
    daemon = lab.start(OBJECTS)
    daemon.popen.send_signal(signal.SIGINT)
    assert daemon.popen.wait(60) == 0
    assert lab.http(API_PORT, "/version", tls=True).status == 200
