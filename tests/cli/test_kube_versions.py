"""--kube-version and `compare --kube-versions`: the modelled kube-proxy, and the changes of an upgrade."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.conformance.corpus.clusters import E1, E2, end, node, service, slice_
from harness.conformance.corpus.row import HEADLESS, full, hinted


def run(*words: str):
    return CliRunner().invoke(main, words)


def dump(tmp_path, *objects: dict) -> str:
    """The objects as kubectl prints them."""
    apis = {"Service": "v1", "Node": "v1", "EndpointSlice": "discovery.k8s.io/v1"}
    items = [{"apiVersion": apis[each["kind"]], **each} for each in (node("a"), *objects)]
    path = tmp_path / "dump.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return str(path)


def changes(source: str, mode: str, versions: str) -> list[tuple[str, ...]]:
    done = run("compare", source, "--modes", mode, "--kube-versions", versions, "--json", "-")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["changes"]
    return [tuple(row[name] for name in ("since", "service", "where", "before", "after")) for row in rows]


def test_changes_of_an_upgrade_for_a_cluster(tmp_path):
    hidden = service(name="hidden", ip="172.30.0.42", meta={"labels": {HEADLESS: ""}})
    slices = slice_(end(E1, "n2")), slice_(end(E2, "n2"), name="hidden-1", of="hidden")
    source = dump(tmp_path, full(), hidden, *slices)
    proxied = ("1.37", "ns/hidden", "172.30.0.42 tcp/80", "left alone", "forwarded")
    assert changes(source, "iptables", "1.35,1.37") == [proxied]
    hairpin = ("1.37", "", "2 IPv4 endpoints of other nodes, connecting to themselves through this node")
    assert changes(source, "nftables", "1.37,1.35") == [proxied, (*hairpin, "masqueraded", "source address kept")]
    loopback = ("1.38", "ns/s1", "127.0.0.1 node port tcp/30001", "left alone", "refused")
    assert loopback in changes(source, "nftables", "1.37,1.38")
    assert changes(source, "iptables", "1.37,1.38") == []


def test_each_step_of_several_versions_is_listed_separately(tmp_path):
    source = dump(tmp_path, service(), slice_(hinted(E1, nodes=("n1",)), hinted(E2, nodes=("n2",))))
    found = changes(source, "iptables", "1.30,1.35,1.37")
    assert found == [("1.35", "ns/s1", "172.30.0.41 tcp/80", "forwarded", "to fewer endpoints")]


def test_a_page_without_changes_says_so(tmp_path):
    done = run("compare", dump(tmp_path, service()), "--modes", "iptables", "--kube-versions", "1.36,1.37")
    assert done.exit_code == 0
    assert "nothing changes for this cluster" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compare", "x", "--kube-versions", "1.37"), "at least two different versions"),
        (("compare", "x", "--kube-versions", "1.37,1.99"), "'1.99' is not a supported Kubernetes version; 1.30 to"),
        (("replay", "x", "--kube-version", "1.29"), "'1.29' is not a supported Kubernetes version"),
        (("plan", "x", "--kube-version", "new"), "'new' is not a supported Kubernetes version"),
        (("lab", "up", "--kube-version", "2.0"), "'2.0' is not a supported Kubernetes version"),
        (("trace", "x", "--kube-version", "1"), "'1' is not a supported Kubernetes version"),
    ],
)
def test_unknown_versions_are_rejected(words, said):
    done = run(*words)
    assert done.exit_code == 2
    assert said in done.output


def test_a_plan_of_each_version(tmp_path):
    source = dump(tmp_path, full(), slice_(end(E1, "n1")))
    older, newer = (run("plan", source, "--kube-version", version).stdout for version in ("1.35", "v1.36.2"))
    assert "set equal-bytes" in older and "hairpin-connections" not in older
    assert "10.180.0.1 . 10.180.0.1 . tcp . 80" in newer and "equal-bytes" not in newer
