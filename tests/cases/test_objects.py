"""`harness trace OBJECTS` for one packet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.commands.trace import trace
from harness.conformance.corpus.clusters import CIP, CLIENT, E1, E2, LB, end, node, service, slice_


@pytest.fixture
def dump(tmp_path: Path) -> str:
    """What kubectl prints of a small cluster."""
    ref = {"targetRef": {"kind": "Pod", "name": "web-0", "namespace": "ns"}}
    items = [node("a"), service("LoadBalancer", lb=[LB]), slice_(end(E1, "n1", **ref), end(E2, "n2"))]
    items.append({"kind": "Pod", "metadata": {"namespace": "ns", "name": "client"}, "status": {"podIP": "10.0.0.2"}})
    path = tmp_path / "dump.json"
    path.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": items}))
    return str(path)


def ask(dump: str, source: str, target: str, *more: str):
    done = CliRunner().invoke(trace, [dump, "--from", source, "--to", target, "--cluster-cidr", "10.0.0.0/8", *more])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("pod:client", "svc:ns/s1:http", f"=> dnat to {E1}:80 or {E2}:80, source kept"),
        ("pod:ns/web-0", f"{CIP}:80", f"=> dnat to {E1}:80 or {E2}:80, source replaced by the node's address"),
        ("node", f"{CIP}:80", f"=> dnat to {E1}:80 or {E2}:80, source replaced by the node's address"),
        (f"external:{CLIENT}", f"{LB}:80/tcp", "source replaced by the node's address"),
        ("pod:10.0.0.9", f"{CIP}:80/udp", "=> reject: rejected with an ICMP error"),
        ("pod:10.0.0.9", "8.8.8.8:53/udp", "=> no-op: left alone"),
    ],
)
def test_the_outcome_is_printed_as_a_sentence(dump, source, target, sentence):
    code, output = ask(dump, source, target)
    assert code == 0 and sentence in output


def test_the_deciding_rules_are_shown_with_their_elements(dump):
    _, output = ask(dump, "pod:client", "svc:ns/s1")
    assert "services: meta priority set ip daddr . meta l4proto . th dport map @services goto cluster-traffic" in output
    assert f"@services {{ {CIP} . tcp . 80 : 20:2000 }}" in output
    assert f"@tcp-endpoints {{ 0:2000 . 0 : {E1} . 80 }}" in output


def test_deciding_iptables_rules_are_shown_in_order(dump):
    code, output = ask(dump, f"external:{CLIENT}", f"{LB}:80", "--mode", "iptables")
    assert code == 0 and f"=> dnat to {E1}:80 or {E2}:80, source replaced" in output
    steps = [
        "nat: -A PREROUTING ", "nat: -A KUBE-SERVICES ", "nat: -A KUBE-EXT-", "nat: -A KUBE-MARK-MASQ ",
        "--probability 0.5000000000", "-j DNAT --to-destination", "nat: -A KUBE-POSTROUTING ", "-j MASQUERADE",
    ]  # fmt: skip
    places = [output.index(step) for step in steps]
    assert places == sorted(places)


def test_localhost_is_traced_from_localhost(dump):
    for mode, sentence in (("iptables", "=> dnat"), ("nftables", "=> no-op")):
        code, output = ask(dump, "node", "127.0.0.1:30001", "--mode", mode)
        assert code == 0 and "127.0.0.1 -> 127.0.0.1 tcp/30001" in output and sentence in output


def test_json_has_the_same_content(dump):
    code, output = ask(dump, "node", f"{CIP}:80", "--json", "-")
    found = json.loads(output)
    assert code == 0 and found["outcome"] == {
        "outcome": "dnat",
        "endpoints": [f"{E1}:80", f"{E2}:80"],
        "masquerade": True,
    }
    assert found["node"] == "n1" and found["mode"] == "nftables" and len(found["steps"]) > 5


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("moon", f"{CIP}:80", "'moon' is not one of pod:NAME, node, external:IP"),
        ("pod:ghost", f"{CIP}:80", "pod:ghost: no address of this family is known"),
        ("external:home", f"{CIP}:80", "'home' is not an IP address"),
        ("node", "svc:ns/ghost:80", "there is no Service ns/ghost"),
        ("node", "svc:ns/s1:81", "the Service has no such port"),
        ("node", f"{CIP}:80/icmp", "'icmp' is not one of tcp, udp, sctp"),
        ("node", f"{CIP}:0", "port 0 is not between 1 and 65535"),
        ("node", "nowhere", "is neither IP:PORT"),
        ("external:fd00::1", f"{CIP}:80", "different IP families"),
    ],
)
def test_bad_arguments_get_an_error_with_a_correction(dump, source, target, words):
    code, output = ask(dump, source, target)
    assert code == 2 and words in output


def test_a_trace_at_a_time_of_a_recording():
    demo = str(Path(__file__).parents[2] / "recordings" / "demo.jsonl")
    question = [demo, "--from", "external:203.0.113.7", "--to", "10.96.0.1:443", "--json", "-", "--at", "50"]
    done = CliRunner().invoke(trace, question)
    assert done.exit_code == 0 and json.loads(done.output)["steps"]
