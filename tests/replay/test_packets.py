"""Real packets alone detect a node with one error, and report no difference for a correct one."""

from __future__ import annotations

import math
import random
import time
from dataclasses import replace

import pytest

from engine import conntrack
from engine.kernel.conntrack import ConntrackTable
from engine.kernel.interface import Applied
from harness.judge.packets import spread, standing
from harness.judge.packets.lookout import gaps
from harness.replay.kernels import ReplayTarget, open_kernel
from harness.replay.session import ReplayOptions, ReplaySession
from tests.replay.cluster import AWAY, HERE, OBJECTS, piece, recording, service

pytestmark = pytest.mark.usefixtures("kernel_namespaces")


def replayed(path, mode: str, commands=(), **options):
    """A replay whose node is meddled with after every program."""
    with open_kernel("netns", mode, packets=True) as target:

        class Meddled:
            def apply(self, program):
                applied = target.kernel.apply(program)
                for command in commands:
                    done = target.place.run(command.split(), b"")
                    assert done.returncode == 0, done.stderr
                return applied

        meddled = ReplayTarget(Meddled(), target.view, target.facts, target.place, target.conntrack)
        given = {"mode": mode, "verify": "packets", "check_every": 1} | options
        return ReplaySession(path, ReplayOptions(**given), meddled, lambda *_: None).run()


MODES = ("nftables", "iptables")
CHANGES = (
    (10.0, "MODIFIED", piece("dns", AWAY, "UDP", 2)),
    (20.0, "MODIFIED", piece("web", HERE, version=2)),
    (30.0, "DELETED", piece("lb", HERE[:1] + AWAY)),
    (40.0, "DELETED", OBJECTS[7]),
)


IPVS = pytest.param("ipvs", marks=pytest.mark.vm)


@pytest.mark.parametrize("mode", [*MODES, IPVS])
def test_a_correct_node_has_no_differences(tmp_path, mode):
    result = replayed(recording(tmp_path / "r.jsonl", *CHANGES), mode)
    assert result.differences == []
    assert result.verified is True
    asked = result.verification.packets
    for who in ("a local pod", "a remote pod", "the node", "an external client", "an endpoint itself"):
        assert asked[f"cluster IP from {who}"]
    for who in ("an allowed source", "a disallowed source"):
        assert asked[f"balancer IP from {who}"]
    assert (
        asked["external IP from an external client"]
        and asked["node port from an external client"]
        and asked["established connections"]
    )
    assert any("affinity ends" in line for line in result.verification.not_checked)


def base_chains(kind: str, hook: str) -> str:
    """A command that empties the chains of the proxy's tables that are at a hook."""
    script = (
        "for t in ip ip6; do nft list table $t kube-proxy"
        f" | awk '/chain/ {{c=$2}} /type {kind} hook {hook}/ {{print c}}'"
        " | while read c; do nft flush chain $t kube-proxy $c; done; done"
    )
    return script.replace(" ", "\x00")


@pytest.mark.parametrize(
    ("kind", "hook", "sign"),
    [
        ("nat", "prerouting", "was left alone, it should arrive at"),
        ("nat", "output", "from the node 192.168.7.1: a connection was left alone"),
        ("nat", "postrouting", "it should come from the node's"),
        ("filter", "prerouting", "from a disallowed source"),
        ("filter", "forward", "it should be refused"),
    ],
)
def test_a_hook_without_rules_is_detected_in_nftables(tmp_path, kind, hook, sign):
    script = base_chains(kind, hook).replace("\x00", " ")
    path = tmp_path / "meddle.sh"
    path.write_text(script)
    result = replayed(recording(tmp_path / "r.jsonl"), "nftables", [f"sh {path}"])
    assert result.verified is False
    assert any(sign in line for line in result.differences), result.differences


@pytest.mark.parametrize(
    ("command", "sign"),
    [
        ("-t nat -F PREROUTING", "from an external client"),
        ("-t nat -F OUTPUT", "from the node 192.168.7.1"),
        ("-t nat -F KUBE-POSTROUTING", "it should come from the node's"),
        ("-t nat -F KUBE-MARK-MASQ", "it should come from the node's"),
        ("-t nat -F KUBE-NODEPORTS", "node port 192.168.7.1 tcp/30080"),
        ("-t nat -I POSTROUTING -j MASQUERADE", "it should come from the client's own"),
        ("-t filter -F KUBE-PROXY-FIREWALL", "from a disallowed source"),
        ("-t filter -F KUBE-EXTERNAL-SERVICES", "it should get no answer"),
        ("-t filter -F KUBE-SERVICES", "it should be refused"),
    ],
)
def test_a_chain_without_rules_is_detected_in_iptables(tmp_path, command, sign):
    result = replayed(recording(tmp_path / "r.jsonl"), "iptables", [f"iptables-nft {command}"])
    assert result.verified is False
    assert any(sign in line for line in result.differences), result.differences


@pytest.mark.vm
@pytest.mark.parametrize(
    ("command", "sign"),
    [
        ("iptables -t nat -F KUBE-POSTROUTING", "it should come from the node's"),
        ("ipset flush KUBE-LOAD-BALANCER-SOURCE-CIDR", "from an allowed source"),
        ("iptables -t filter -F KUBE-IPVS-FILTER", "it should be refused"),
    ],
)
def test_a_removed_part_is_detected_in_ipvs(tmp_path, command, sign):
    result = replayed(recording(tmp_path / "r.jsonl"), "ipvs", [command])
    assert result.verified is False
    assert any(sign in line for line in result.differences), result.differences


def test_a_packet_that_cannot_be_sent_is_a_difference(tmp_path):
    """EHOSTUNREACH of a send once ended the judge with the harness's own error."""
    result = replayed(recording(tmp_path / "r.jsonl"), "iptables", [f"ip route replace unreachable {AWAY[0]}/32"])
    assert result.verified is False
    assert any(AWAY[0] in line or "could not be sent (E" in line for line in result.differences), result.differences


@pytest.fixture
def many_flows(monkeypatch):
    """So many UDP flows to each destination that every endpoint has one."""
    monkeypatch.setitem(standing.COPIES, standing.UDP, 24)


@pytest.mark.usefixtures("many_flows")
@pytest.mark.parametrize("mode", MODES)
def test_stale_flows_that_stay_are_detected(tmp_path, mode, monkeypatch):
    monkeypatch.setattr(ConntrackTable, "remove", lambda *_: 0)
    result = replayed(recording(tmp_path / "r.jsonl", CHANGES[0]), mode)
    assert any("a flow of UDP still goes to" in line for line in result.differences), result.differences


@pytest.mark.parametrize("mode", MODES)
def test_flows_to_a_deleted_service_are_detected(tmp_path, mode, monkeypatch):
    path = recording(tmp_path / "r.jsonl", (10.0, "DELETED", OBJECTS[3]))
    assert replayed(path, mode).differences == []
    monkeypatch.setattr(ConntrackTable, "remove", lambda *_: 0)
    result = replayed(path, mode)
    assert any("though no Service leads there" in line for line in result.differences), result.differences


def draining(name: str, addresses: list[str]) -> dict:
    made = piece(name, addresses, "UDP", 2)
    for each in made["endpoints"][:1]:
        each["conditions"] = {"ready": False, "serving": True, "terminating": True}
    return made


@pytest.mark.usefixtures("many_flows")
@pytest.mark.parametrize("mode", MODES)
def test_removed_flows_to_draining_endpoints_are_detected(tmp_path, mode, monkeypatch):
    path = recording(tmp_path / "r.jsonl", (10.0, "MODIFIED", draining("dns", HERE + AWAY)))
    assert replayed(path, mode).differences == []
    monkeypatch.setattr(conntrack, "endpoints_of", lambda *_: {})  # none of them drains
    result = replayed(path, mode)
    assert any("a flow of UDP to 10.128.1.11:8080, which serves" in line for line in result.differences)


@pytest.mark.parametrize("mode", MODES)
def test_flows_that_outlive_the_last_endpoint_are_detected(tmp_path, mode, monkeypatch):
    """Also those of a Service that had none at first."""
    late = service("late", "10.96.0.7", 53, "UDP")
    changes = [
        (10.0, "ADDED", late), (10.0, "ADDED", piece("late", HERE + AWAY, "UDP")),
        (20.0, "MODIFIED", piece("late", [], "UDP", 2)),
    ]  # fmt: skip
    path = recording(tmp_path / "r.jsonl", *changes)
    assert replayed(path, mode).differences == []
    monkeypatch.setattr(ConntrackTable, "remove", lambda *_: 0)
    result = replayed(path, mode)
    assert any("10.96.0.7" in line and "which serves no more" in line for line in result.differences)


def test_removed_flows_to_serving_endpoints_are_detected(tmp_path, monkeypatch):
    remove = ConntrackTable.remove
    monkeypatch.setattr(ConntrackTable, "remove", lambda self, family, stale: remove(self, family, lambda *_: True))
    # Among many endpoints a flow that begins again does not come to the same one by chance.
    many = HERE + AWAY + [f"10.128.2.{n}" for n in range(20, 32)]
    path = recording(tmp_path / "r.jsonl", (10.0, "MODIFIED", piece("dns", many, "UDP", 2)))
    result = replayed(path, "nftables")
    assert any("which serves" in line for line in result.differences), result.differences


@pytest.mark.parametrize("mode", MODES)
def test_broken_established_connections_are_detected(tmp_path, mode):
    path = recording(tmp_path / "r.jsonl", *CHANGES[:2])
    rule = "iptables-nft -t raw -A PREROUTING -p tcp ! --syn -s 10.128.0.0/9 -d 10.96.0.1 -j DROP"
    result = replayed(path, mode, [rule])
    assert any("an established connection" in line and "was cut" in line for line in result.differences)


def test_an_expired_connection_is_not_judged(tmp_path, monkeypatch):
    """On a machine that takes minutes between two looks, conntrack has rightly forgotten it."""
    monkeypatch.setitem(standing.IDLE_SECONDS, standing.TCP, 1.0)
    forgetful = "sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_syn_recv=1"
    result = replayed(recording(tmp_path / "r.jsonl", *CHANGES[:1]), "nftables", [forgetful, "sleep 1.5"])
    assert result.differences == []


def weighted(path, skew: str):
    """In iptables the first endpoint of `web` gets a share of its own."""
    script = (
        "c=$(iptables-nft-save -t nat | grep -o 'KUBE-SVC-[A-Z0-9]* .*ns/web' | head -1 | cut -d' ' -f1);"
        "s=$(iptables-nft-save -t nat | grep -- \"-A $c .*KUBE-SEP\" | head -1 | grep -o 'KUBE-SEP-[A-Z0-9]*');"
        f"iptables-nft -t nat -I $c -m statistic --mode random --probability {skew} -j $s"
    )
    path.write_text(script)
    return f"sh {path}"


@pytest.mark.parametrize(("skew", "sign"), [("0.25", "got between"), ("1.0", "got none of")])
def test_an_uneven_distribution_is_detected(tmp_path, skew, sign):
    """A quarter more for the first of three gives it twice the share of each other."""
    result = replayed(recording(tmp_path / "r.jsonl"), "iptables", [weighted(tmp_path / "w.sh", skew)])
    assert any(sign in line for line in result.differences), result.differences


def test_missing_session_affinity_is_detected(tmp_path):
    script = tmp_path / "s.sh"
    script.write_text("iptables-nft-save -t nat | grep -v -- '--rcheck' | iptables-nft-restore\n")
    result = replayed(recording(tmp_path / "r.jsonl"), "iptables", [f"sh {script}"])
    assert any("they should stay at one endpoint" in line for line in result.differences), result.differences


@pytest.mark.parametrize(
    ("statistic", "freedom", "chance"),
    [(3.841, 1, 0.05), (18.307, 10, 0.05), (124.342, 100, 0.05), (29.588, 10, 0.001)],
)
def test_the_chi_square_tail_equals_the_tables(statistic, freedom, chance):
    assert math.isclose(spread.tail(statistic, freedom), chance, rel_tol=5e-3)


def test_even_draws_rarely_fail_and_double_shares_always_do():
    draw = random.Random(7)

    def counts(weights, n):
        found = [0] * len(weights)
        for end in draw.choices(range(len(weights)), weights, k=n):
            found[end] += 1
        return found

    for n in (2, 3, 5, 10):
        even = [spread.chance(counts([1] * n, spread.draws(n))) for _ in range(300)]
        assert sum(chance < 0.01 for chance in even) <= 12, "one in a hundred, three are expected"
        skewed = [spread.chance(counts([2] + [1] * (n - 1), spread.draws(n))) for _ in range(100)]
        assert sum(chance < spread.FALSE_ALARM for chance in skewed) >= 95


class Gap:
    """Every program after the first is preceded by a moment in which the node translates nothing."""

    def __init__(self, target, seconds: float) -> None:
        self._target, self._seconds, self._count = target, seconds, 0

    def apply(self, program):
        self._count += 1
        if self._count > 1:
            self._target.place.run(["iptables-nft", "-t", "nat", "-I", "PREROUTING", "-j", "ACCEPT"], b"")
            time.sleep(self._seconds)
            self._target.place.run(["iptables-nft", "-t", "nat", "-D", "PREROUTING", "-j", "ACCEPT"], b"")
        return self._target.kernel.apply(program)


def test_a_moment_without_rules_is_detected_and_measured(tmp_path):
    path = recording(tmp_path / "r.jsonl", (10.0, "MODIFIED", piece("web", HERE, version=2)))
    with open_kernel("netns", "iptables", packets=True) as target:
        gone = ReplayTarget(Gap(target, 0.1), target.view, target.facts, target.place, target.conntrack)
        result = ReplaySession(path, ReplayOptions(mode="iptables", verify="packets"), gone, lambda *_: None).run()
    between = result.between_syncs
    assert between.lost > 0 and between.longest_gap_seconds >= 0.05
    assert any("during sync" in line and "were lost" in line for line in result.differences)


@pytest.mark.parametrize("mode", MODES)
def test_a_change_ends_by_the_kernels_notification(tmp_path, mode):
    path = recording(tmp_path / "r.jsonl", *CHANGES)
    change = replayed(path, mode).change
    assert change.clocks == {"kernel": change.count} and change.count == len(CHANGES)


def test_a_kernel_that_announces_nothing_received_nothing(tmp_path):
    """An engine that says it sent bytes and did not."""
    path = recording(tmp_path / "r.jsonl", CHANGES[1])
    with open_kernel("netns", "nftables", packets=True) as target:

        class Lazy:
            count = 0

            def apply(self, program):
                self.count += 1
                return target.kernel.apply(program) if self.count <= 2 else Applied(99)

        lazy = ReplayTarget(Lazy(), target.view, target.facts, target.place, target.conntrack)
        result = ReplaySession(path, ReplayOptions(verify="packets"), lazy, lambda *_: None).run()
    assert any("the kernel announced no change" in line for line in result.differences)


def test_an_element_replaced_in_two_transactions_is_detected(tmp_path):
    """However short the absence: no connection in between is needed."""
    path = recording(tmp_path / "r.jsonl", *CHANGES[:2])
    with open_kernel("netns", "nftables", packets=True) as target:

        class Halving:
            def apply(self, program):
                if not program.start:
                    target.kernel.apply(replace(program, sets=tuple(replace(s, add=[]) for s in program.sets)))
                    program = replace(program, sets=tuple(replace(s, delete=[]) for s in program.sets))
                return target.kernel.apply(program)

        halving = ReplayTarget(Halving(), target.view, target.facts, target.place, target.conntrack)
        result = ReplaySession(path, ReplayOptions(verify="readback"), halving, lambda *_: None).run()
    assert any("was added again 0.0" in line and "in another transaction" in line for line in result.differences)
    assert result.between_syncs.half_done_seconds > 0


def test_gaps_are_measured_per_target():
    probes = [(0, 1.0, True), (1, 1.1, False), (0, 1.2, True), (1, 1.3, False), (0, 1.35, False), (1, 1.5, True)]
    assert gaps(probes) == {1: pytest.approx(0.4), 0: pytest.approx(0.0)}
