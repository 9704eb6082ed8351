"""Programs as text: golden files a person can read, names, counts, what a change writes."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pytest

from engine.backends.iptables.layout import LARGE_CLUSTER_ENDPOINTS
from engine.backends.iptables.names import chain_hash
from harness.conformance.corpus.clusters import E1, E2, E3, end, service, slice_
from tests.iptables.programs import BOTH, CLUSTERS, CONFIG, Keeping, observe, program_of, synced

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_first_programs_equal_the_golden_files(cluster):
    """UPDATE_GOLDEN=1 writes them again; read the difference before it is committed."""
    path, text = GOLDEN / f"{cluster}.rules", program_of(cluster).text()
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert path.read_text() == text


def test_every_golden_file_is_used():
    assert {path.stem for path in GOLDEN.iterdir()} == set(CLUSTERS)


def test_chain_names_are_those_of_kube_proxy():
    """IPT-02: the name, then the protocol, then for an endpoint its address and port."""
    assert chain_hash("ns1/svc1:p80" + "tcp") == "XPGD46QRK7WJZT7O"
    assert chain_hash("ns1/svc1:p80" + "tcp" + "10.180.0.1:80") == "SXIVWICOYRO3J4NJ"


def test_rules_are_counted_as_users_count_them():
    """MET-06: a ClusterIP Service with n endpoints has 1 + 1 + n + 2n rules in nat."""
    bare = program_of("no-services")
    for count, ends in ((2, BOTH), (3, (*BOTH, end(E3, "n2")))):
        kernel = Keeping()
        synced(kernel, service(), slice_(*ends))
        program = kernel.programs[0]
        assert program.rules_total["nat"] - bare.rules_total["nat"] == 2 + 3 * count
        assert program.rules_last == program.rules_total
        written = program.text().split("*nat\n")[1].splitlines()
        assert sum(line.startswith("-A") for line in written) == program.rules_total["nat"]


def test_a_new_endpoint_writes_its_chain_and_its_services():
    kernel = Keeping()
    proxier = synced(kernel, service(), slice_(*BOTH), service(name="other", ip="172.30.0.42"))
    observe(proxier, slice_(*BOTH, end(E3, "n2")), event="MODIFIED")
    sync = proxier.sync()
    assert not sync.full
    (program,) = sync.programs
    nat = program.tables[-1]
    assert [chain[:9] for chain in nat.chains] == ["KUBE-SEP-", "KUBE-SVC-"]
    assert (nat.edits, nat.deleted) == ((), ())
    assert program.rules_last == {"filter": 0, "nat": 2 + 4}
    assert program.rules_total["nat"] == kernel.programs[0].rules_total["nat"] + 3


def test_removing_the_last_endpoint_leaves_a_reject_rule():
    kernel = Keeping()
    proxier = synced(kernel, service(), slice_(end(E1, "n1")))
    observe(proxier, slice_(), event="MODIFIED")
    (program,) = proxier.sync().programs
    filters, nat = program.tables
    assert [(e.verb, e.chain) for e in filters.edits] == [("-I", "KUBE-SERVICES")]
    assert filters.edits[0].rule.endswith("-j REJECT --reject-with icmp-port-unreachable")
    assert [(e.verb, e.chain) for e in nat.edits] == [("-D", "KUBE-SERVICES")]
    assert [chain[:9] for chain in nat.deleted] == ["KUBE-SVC-", "KUBE-SEP-"]


def test_the_jump_to_node_ports_stays_last():
    kernel = Keeping()
    proxier = synced(kernel, service(), slice_(end(E1, "n1")))
    observe(proxier, service(name="s2", ip="172.30.0.42"), slice_(end(E2), name="s2-a", of="s2"))
    proxier.sync()
    rules = kernel.tables[4]["nat"].chains["KUBE-SERVICES"]
    assert len(rules) == 3
    assert "KUBE-NODEPORTS" in rules[-1]


def test_a_large_cluster_has_no_comments_on_endpoints():
    """IPT-07: chains that stand are left as they are until they are written for another reason."""
    kernel = Keeping()
    proxier = synced(kernel, service(), slice_(*BOTH))
    many = [end(f"10.181.{i >> 8}.{i & 255}") for i in range(LARGE_CLUSTER_ENDPOINTS)]
    observe(proxier, service(name="s2", ip="172.30.0.42"), slice_(*many, name="s2-a", of="s2"))
    (program,) = proxier.sync().programs
    picks = [rule for chain, rules in program.tables[-1].chains.items() if "SVC" in chain for rule in rules]
    assert len(picks) == 1 + LARGE_CLUSTER_ENDPOINTS
    assert not any(" -> " in rule for rule in picks)
    assert sum(" -> " in rule for rules in kernel.tables[4]["nat"].chains.values() for rule in rules) == 2


def test_liberal_conntrack_accepts_invalid_packets():
    """MASQ-03."""
    kernel = Keeping()
    synced(kernel, config=dataclasses.replace(CONFIG, conntrack_tcp_be_liberal=True))
    assert "INVALID" in program_of("no-services").text()
    assert "INVALID" not in kernel.programs[0].text()


def test_endpoints_are_in_the_order_of_their_texts():
    """EPS-07: as plain strings, by which 10.1.1.11:11 comes before 10.1.1.1:11."""
    kernel = Keeping()
    synced(kernel, service(), slice_(*(end(address) for address in ("10.1.1.2", "10.1.1.1", "10.1.1.11"))))
    chains = kernel.tables[4]["nat"].chains
    (picks,) = [rules for chain, rules in chains.items() if "SVC" in chain]
    assert [re.search(r"-> (\S+?)\"", rule)[1] for rule in picks if " -> " in rule] == [
        "10.1.1.11:80", "10.1.1.1:80", "10.1.1.2:80",
    ]  # fmt: skip
    assert [re.search(r"probability (\S+)", rule)[1] for rule in picks if "probability" in rule] == [
        "0.3333333333", "0.5000000000",
    ]  # fmt: skip


def test_reject_rules_name_the_service_port():
    """NOEP-06: with its port's name, and without where it has none."""
    kernel = Keeping()
    bare = service(name="s2", ip="172.30.0.42", ports=[("", "TCP", 80, 0)])
    far = service(name="s3", ip="172.30.0.43", internalTrafficPolicy="Local")
    synced(kernel, service(), bare, far, slice_(end(E2, "n2"), name="far", of="s3"))
    text = kernel.programs[0].text()
    assert '"ns/s1:http has no endpoints"' in text and '"ns/s2 has no endpoints"' in text
    assert '"ns/s3:http has no local endpoints"' in text
