"""`harness plan`: its text, loaded by the real tools, has the same result as the engine."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from engine.backends.kernelspace.program import DSR, LOCAL_ROUTED_VIP, SOURCE_IP, VIP_EXTERNAL_IP
from harness.conformance.corpus.clusters import CIP, E1, E2, E3, LB, NODE_PORT, end, node, service, slice_
from harness.judge.readback.compare import compare
from harness.modes import MODES, mode_of
from harness.places.namespace import Namespace
from harness.places.place import Place
from harness.replay.plan import PLANNERS, PlanOptions, programs
from tests.cli.here import harness

DEMO = "recordings/demo.jsonl"


def objects() -> list[dict]:
    """A Service of every kind, with a policy, an affinity, source ranges and one without endpoints."""
    port = [("http", "TCP", 80, 0)]
    ends = slice_(end(E1, "n1"), end(E2, "n2"), ports=[{"name": "http", "protocol": "TCP", "port": 8080}])
    sticky = slice_(end(E3, "n2"), name="s2-a", of="s2", ports=[{"name": "http", "protocol": "TCP", "port": 8080}])
    balancer = service(
        "LoadBalancer", lb=[LB], loadBalancerSourceRanges=["203.0.113.0/24"], externalTrafficPolicy="Local"
    )
    return [
        node(),
        balancer,
        ends,
        service(name="s2", ip="172.30.0.42", ports=port, sessionAffinity="ClientIP", externalIPs=["192.168.99.11"]),
        sticky,
        service(name="s3", ip="172.30.0.43", ports=port),
    ]


@pytest.fixture
def dump(tmp_path):
    path = tmp_path / "dump.json"
    listed = [each if "apiVersion" in each else {"apiVersion": "v1", **each} for each in objects()]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": listed}))
    return str(path)


def place_of(namespace: Namespace) -> Place:
    return Place("netns", namespace.socket, namespace.run, namespace.start)


def fed(namespace: Namespace, page: str, *command: str) -> None:
    done = namespace.run(list(command), page.encode())
    assert done.returncode == 0, done.stderr.decode()


def applied(mode: str, dump: str, namespace: Namespace, *, and_then) -> object:
    """The result of `and_then(opened)` once the engine has programmed the namespace."""
    with mode_of(mode).real(place_of(namespace)) as opened:
        for program in programs(dump, PlanOptions(mode)):
            opened.kernel.apply(program)
        return and_then(opened)


def test_nft_loads_the_sections_with_the_same_result_as_the_engine(kernel_namespaces, dump, tmp_path):
    assert harness("plan", dump, "--mode", "nftables", "--dir", str(tmp_path / "nft")).returncode == 0
    with Namespace() as by_tool, Namespace() as direct:
        fed(by_tool, "", str(tmp_path / "nft" / "load.sh"))
        behaviour = applied("nftables", dump, direct, and_then=lambda opened: opened.view.behaviour(4))
        with mode_of("nftables").real(place_of(by_tool)) as opened:
            assert compare(behaviour, opened.view.behaviour(4)) == []
        listings = [each.run(["nft", "list", "ruleset"]).stdout.decode() for each in (by_tool, direct)]
    first, second = (sorted(text.replace(",", "").split()) for text in listings)
    assert "kube-proxy" in first
    assert first == second


def test_the_page_consists_of_the_sections_in_order(dump):
    page = harness("plan", dump, "--mode", "nftables").stdout
    made = programs(dump, PlanOptions("nftables"))
    assert "".join(line for line in page.splitlines(True) if not line.startswith("# ")) == "".join(
        program.text() for program in made
    )


@pytest.mark.parametrize(("family", "tool"), [("4", "iptables"), ("6", "ip6tables")])
def test_iptables_restore_loads_the_page_with_the_same_result_as_the_engine(kernel_namespaces, dump, family, tool):
    page = harness("plan", dump, "--mode", "iptables", "--family", family).stdout
    with Namespace() as by_tool, Namespace() as direct:
        fed(by_tool, page, f"{tool}-restore", "--noflush", "--counters")
        applied("iptables", dump, direct, and_then=lambda opened: None)
        saved = [each.run([f"{tool}-save"]).stdout.decode() for each in (by_tool, direct)]
    first, second = (re.sub(r"\[\d+:\d+\]|^#.*$", "", text, flags=re.M).split() for text in saved)
    assert "KUBE-SERVICES" in first
    assert sorted(first) == sorted(second)


def test_the_userspace_proxy_loads_its_page(dump):
    from engine.backends.userspace.tables import Tables

    page = json.loads(harness("plan", dump, "--mode", "userspace", "--family", "4").stdout)
    tables = Tables(4)
    tables.apply(programs(dump, PlanOptions("userspace", families=(4,)))[0])
    assert page["rules"].keys() == tables.rules.keys()
    assert f"{CIP}:80/tcp" in page["rules"]


@pytest.mark.parametrize("mode", [*MODES, "kernelspace"])
def test_every_mode_has_a_page_at_any_point(mode, tmp_path):
    early, late = (harness("plan", DEMO, "--mode", mode, *at) for at in (["--at", "60"], []))
    assert early.returncode == late.returncode == 0
    assert early.stdout and early.stdout != late.stdout
    path = tmp_path / "page"
    assert harness("plan", DEMO, "--mode", mode, "-o", str(path)).stdout == ""
    assert path.read_text() == late.stdout


def test_modes_of_plan_are_those_of_the_engine():
    assert set(PLANNERS) == {*MODES, "kernelspace"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((DEMO, "--at", "999999"), "no event has seq 999999; the last one before it is"),
        (("nowhere.json",), "nowhere.json"),
        ((DEMO, "--cluster-cidr", "10.0.0.0"), "is not a CIDR block"),
        ((DEMO, "-o", "no/such/folder"), "no/such/folder: cannot be written: No such file"),
        ((DEMO, "-o", "x", "--dir", "y"), "--output and --dir exclude each other"),
        ((DEMO, "--mode", "Kernelspace"), "is not one of"),
    ],
)
def test_bad_input_is_named_and_exits_with_2(arguments, message):
    done = harness("plan", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_kernelspace_policies_are_those_of_a_windows_node(dump):
    page = json.loads(harness("plan", dump, "--mode", "kernelspace", "--family", "4", "--source-vip", E3).stdout)
    found = {
        (each["FrontendVIPs"][0] if each["FrontendVIPs"] else "", each["PortMappings"][0]["ExternalPort"]): each
        for each in page["CreateLoadBalancers"]
    }
    assert set(found) == {(CIP, 80), (LB, 80), ("", NODE_PORT), ("172.30.0.42", 80), ("192.168.99.11", 80)}
    assert found[CIP, 80]["HostComputeEndpoints"] == [E1, E2]
    assert found[LB, 80]["HostComputeEndpoints"] == [E1], "externalTrafficPolicy Local"
    assert found[LB, 80]["Flags"] == DSR
    assert found["", NODE_PORT]["PortMappings"][0]["Flags"] == LOCAL_ROUTED_VIP | VIP_EXTERNAL_IP
    assert found["172.30.0.42", 80]["PortMappings"][0]["DistributionType"] == SOURCE_IP
    assert {each["SourceVIP"] for each in found.values()} == {E3}
    remote = [each["IpConfigurations"][0]["IpAddress"] for each in page["CreateEndpoints"]]
    assert sorted(remote) == [E2, E3], "this node's own are there already"


@pytest.mark.skipif(shutil.which("nft") is None, reason="NO NFT: package nftables")
def test_kernelspace_is_not_offered_for_replay():
    done = harness("replay", DEMO, "--mode", "kernelspace")
    assert done.returncode == 2
    assert "'kernelspace' is not one of" in done.stderr
