"""The judge alone: rules as written by kube-proxy, and wrong rules."""

from __future__ import annotations

import ipaddress

import pytest

from harness.judge.packet import Packet
from harness.judge.readback.compare import compare
from harness.judge.readback.iptables import behaviour_of
from harness.judge.readback.iptables_text import ParsedTables
from harness.judge.trace.iptables import IptablesTracer
from harness.modes import iptables
from harness.places.place import Place

from .kube_proxy import FIRST, SECOND

NODE, SECOND_ADDRESS, CLIENT, POD = "192.168.0.2", "192.168.1.2", "203.0.113.2", "10.0.0.2"
LOCAL = frozenset(ipaddress.ip_address(a).packed for a in (NODE, SECOND_ADDRESS, "127.0.0.1"))
WEB = {f"10.180.0.{n}:8080" for n in (7, 8, 9)}
BOTH = {"10.180.0.1:80", "10.180.1.1:80"}


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def asked(source: str, target: str, interface: str = "eth0") -> Packet:
    address, _, port = target.rpartition(":")
    own = packed(source) in LOCAL
    local = packed(address) in LOCAL
    return Packet(packed(source), packed(address), 6, int(port), own, local, "" if own else interface)


def fed(*texts: str) -> IptablesTracer:
    tracer = IptablesTracer(4, LOCAL)
    for text in texts:
        tracer.feed(text)
    return tracer


def shown(outcome) -> tuple[str, set[str], bool]:
    ends = {f"{ipaddress.ip_address(address)}:{port}" for address, port in outcome.endpoints}
    return outcome.kind, ends, outcome.masquerade


@pytest.mark.parametrize(
    ("source", "target", "kind", "ends", "masquerade"),
    [
        (POD, "172.30.0.41:80", "dnat", WEB, False),
        (NODE, "172.30.0.41:80", "dnat", WEB, True),
        ("10.180.0.7", "172.30.0.41:80", "dnat", WEB, True),  # itself among them
        (CLIENT, f"{NODE}:30001", "dnat", WEB, True),
        (CLIENT, f"{SECOND_ADDRESS}:30001", "dnat", WEB, True),
        ("127.0.0.1", "127.0.0.1:30001", "dnat", WEB, True),
        (CLIENT, "127.0.0.1:99", "drop", set(), False),
        ("127.0.0.1", "127.0.0.1:99", "no-op", set(), False),
        (CLIENT, "1.2.3.4:80", "dnat", {"10.180.0.1:80"}, False),
        (POD, "1.2.3.4:80", "drop", set(), False),
        (CLIENT, f"{NODE}:30003", "reject", set(), False),
        (NODE, f"{NODE}:30003", "reject", set(), False),
        (POD, "172.30.0.43:80", "reject", set(), False),
        (CLIENT, f"{NODE}:32100", "no-op", set(), False),
        (POD, "172.30.0.41:81", "no-op", set(), False),
        (POD, "8.8.8.8:53", "no-op", set(), False),
    ],
)
def test_a_packet_through_kube_proxys_own_rules(source, target, kind, ends, masquerade):
    assert shown(fed(FIRST).trace(asked(source, target)).outcome) == (kind, ends, masquerade)


def test_the_steps_are_the_matching_rules_including_accept():
    steps = fed(FIRST).trace(asked(CLIENT, f"{NODE}:32100")).steps
    assert steps[-1].startswith("filter: -A KUBE-NODEPORTS") and steps[-1].endswith("-j ACCEPT")
    assert fed(FIRST).facts() == {"martian_firewall_rule": True}


def test_a_client_is_remembered_by_the_tracers_clock_and_forgotten_with_the_rules():
    tracer, question = fed(FIRST), asked(POD, "172.30.0.41:80")
    by_node_port = asked(POD, f"{NODE}:30001")
    taken = tracer.connect(question, 2)
    assert shown(taken)[1] == {"10.180.0.9:8080"}
    tracer.now = 600
    assert {tracer.connect(each, n).endpoints for each in (question, by_node_port) for n in range(3)} == {
        taken.endpoints
    }
    tracer.now = 1201
    assert shown(tracer.trace(question).outcome)[1] == WEB, "refreshed at 600, forgotten after 1200"
    tracer.connect(question, 2)
    tracer.feed(SECOND)
    assert shown(tracer.trace(question).outcome)[1] == {"10.180.0.8:8080"}, "the one it had is gone"
    tracer.feed(FIRST.replace("-I ", "-A "))
    assert shown(tracer.trace(question).outcome)[1] == WEB, "its list went with its last rule"


def test_partial_texts_change_only_the_chains_they_name():
    tracer = fed(FIRST, SECOND)
    assert shown(tracer.trace(asked(POD, "172.30.0.41:80")).outcome) == ("dnat", {"10.180.0.8:8080"}, False)
    assert shown(tracer.trace(asked(CLIENT, "1.2.3.4:80")).outcome) == ("dnat", {"10.180.0.1:80"}, False)


@pytest.mark.parametrize("variant", iptables.VARIANTS)
def test_rules_printed_by_the_kernel_are_equivalent(namespace, variant):
    place = Place("netns", namespace.socket, namespace.run)
    text = "".join(line for line in FIRST.splitlines(keepends=True) if "nfacct" not in line)
    with iptables.real(place, variant) as opened:
        for step in (text, SECOND):
            done = place.run(
                ["env", "XTABLES_LOCKFILE=/dev/null", f"iptables-{variant}-restore", "--noflush"], step.encode()
            )
            assert done.returncode == 0, done.stderr
        saved = opened.view.save(4)
    assert compare(behaviour_of(ParsedTables(text + SECOND)), behaviour_of(ParsedTables(saved))) == []
    for source in (POD, NODE, CLIENT, "127.0.0.1", "10.180.0.1"):
        for target in ("172.30.0.41:80", "172.30.0.42:80", "1.2.3.4:80", f"{NODE}:30001", "127.0.0.1:99"):
            question = asked(source, target)
            assert fed(saved).trace(question).outcome == fed(text, SECOND).trace(question).outcome, question


def line(begin: str) -> str:
    (found,) = [each for each in FIRST.splitlines(keepends=True) if each.startswith(begin)]
    return found


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("--probability 0.3333333333", "--probability 0.4000000000", "KUBE-SVC-WEB is unfair"),
        (line("-A KUBE-SVC-WEB -m comment --comment \"ns/web:http -> 10.180.0.9:8080\" -j"), "", "unfair"),
        ("-s 10.180.0.7 -j", "-s 10.180.0.77 -j", "does not mark packets from its endpoint to itself"),
        ("--name KUBE-SEP-WEB2 --set ", "--name KUBE-SEP-WEB1 --set ", "under another name"),
        ("-m recent --name KUBE-SEP-WEB2 --set ", "", "differ about session affinity"),
        ("--name KUBE-SEP-WEB3 --rcheck", "--name KUBE-SEP-WEB1 --rcheck", "are looked up in another list"),
        (line("-A KUBE-PROXY-FIREWALL"), "", "KUBE-PROXY-FIREWALL differ"),
        ("-j KUBE-FW-LOCAL", "-j KUBE-EXT-LOCAL", "KUBE-PROXY-FIREWALL differ"),
        (line("-A KUBE-SVL-LOCAL"), "", "KUBE-SVL-LOCAL is unfair"),
        ("-s 10.0.0.0/8 -j KUBE-SVC-LOCAL", "-o eth0 -j KUBE-SVC-LOCAL", "unknown match"),
        (line("-A KUBE-EXT-LOCAL -j"), "", "KUBE-SVL-LOCAL"),
        ("*nat\n", "*nat\n:KUBE-SEP-STALE - [0:0]\n", "KUBE-SEP-STALE"),
    ],
)  # fmt: skip
def test_readback_rejects_contradictory_rules(old, new, words):
    assert old in FIRST
    with pytest.raises(ValueError, match=words):
        behaviour_of(ParsedTables(FIRST.replace(old, new, 1)))


def test_readback_detects_every_difference_in_behaviour():
    right = behaviour_of(ParsedTables(FIRST))
    for old, new in (
        ("10.180.0.9:8080\n", "10.180.0.9:8081\n"),
        ("! -s 10.0.0.0/8 -j KUBE-MARK-MASQ", "-j KUBE-MARK-MASQ"),
        ("-s 203.0.113.0/25", "-s 203.0.113.0/24"),
        ("--dport 30001", "--dport 30002"),
        (line("-A KUBE-EXT-WEB -m comment"), ""),
        ("--src-type LOCAL -j KUBE-MARK-MASQ", "--src-type LOCAL -j KUBE-SVC-LOCAL"),
        ("-d 172.30.0.43 --dport 80 -j REJECT", "-d 172.30.0.43 --dport 80 -j DROP"),
        ("--seconds 600", "--seconds 601"),
    ):
        assert old in FIRST
        assert compare(right, behaviour_of(ParsedTables(FIRST.replace(old, new)))), old
    limited = FIRST.replace("-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS", f"-d {NODE} -j KUBE-NODEPORTS")
    assert behaviour_of(ParsedTables(limited)).node_addresses == {packed(NODE)} and right.node_addresses is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-A KUBE-X -m telepathy -j ACCEPT", "match 'telepathy' is not known"),
        ("-A KUBE-X --sport 80 -j ACCEPT", "option '--sport' is not known"),
        ("-A KUBE-X -j NFLOG", "no chain NFLOG to jump to"),
        ("-A KUBE-X -m recent --update --seconds 3 -j ACCEPT", "--update"),
        ("-A KUBE-X -m recent --rcheck --name Y -j ACCEPT", "only --set, and --rcheck with --seconds"),
        ("-A KUBE-X -m statistic --mode nth -j ACCEPT", "statistic mode nth"),
        ("-A KUBE-X -m addrtype --dst-type BROADCAST -j ACCEPT", "address type BROADCAST"),
        ("-A KUBE-X -j KUBE-X", "form a loop"),
    ],
)
def test_the_tracer_skips_no_rule_silently(text, words):
    tracer = fed(f"*nat\n:KUBE-X - [0:0]\n{text}\n-A PREROUTING -j KUBE-X\nCOMMIT\n")
    with pytest.raises(ValueError, match=words):
        tracer.trace(asked(CLIENT, "8.8.8.8:53"))


def test_the_policy_of_a_builtin_chain_applies():
    tracer = fed("*filter\n:FORWARD DROP [0:0]\n:INPUT DROP [0:0]\nCOMMIT\n", FIRST)
    assert tracer.trace(asked(CLIENT, f"{NODE}:30001")).outcome.kind == "dnat", "marked packets are accepted (MASQ-02)"
    assert tracer.trace(asked(CLIENT, f"{NODE}:32100")).outcome.kind == "no-op", "accepted (IPT-06)"
    assert tracer.trace(asked(CLIENT, f"{NODE}:22")).outcome.kind == "drop"
    assert tracer.trace(asked(POD, "172.30.0.41:80")).outcome.kind == "drop", "not marked, so not accepted"
