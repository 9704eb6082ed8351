"""Arbitrary case files: every field is applied or named as unknown, and none crashes the judge."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness.acceptance.asserts import judged_asserts
from harness.acceptance.cases import CaseError, read
from harness.acceptance.run import judge
from harness.cli.commands.trace import trace
from harness.conformance.corpus import CASES_FOLDER

DATA = CASES_FOLDER
RAW = {path.name: path.read_text() for path in sorted(DATA.glob("*.json"))}
ODD = (None, "", 0, -1, 2**40, 1.5, True, [], {}, [None], ["x"], {"x": 1}, "x", "::1", "10.0.0.1", "10.0.0.0/33")


def written(folder: Path, raw: dict) -> Path:
    path = folder / "case.json"
    path.write_text(json.dumps(raw))
    return path


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def put(raw: dict, path: tuple, value) -> None:
    *way, last = path
    for key in way:
        raw = raw[key]
    raw[last] = value


@given(data=st.data())
def test_odd_values_anywhere_give_a_verdict_or_an_error_that_names_the_file(data, tmp_path_factory):
    raw = json.loads(RAW[data.draw(st.sampled_from(sorted(RAW)))])
    for _ in range(data.draw(st.integers(1, 3))):
        put(
            raw,
            data.draw(st.sampled_from([p for p in places(raw) if p])),
            copy.deepcopy(data.draw(st.sampled_from(ODD))),
        )
    path = written(tmp_path_factory.mktemp("odd"), raw)
    try:
        case = read(path)
    except CaseError as error:
        assert str(error).startswith(str(path))
        return
    for mode in case.modes:
        json.dumps(judge(case, mode))


def test_unknown_fields_are_named(tmp_path):
    raw = json.loads(RAW["019-etp-local.json"])
    raw["mood"] = raw["config"]["weather"] = raw["flows"][0]["colour"] = raw["flows"][0]["expect"]["speed"] = 1
    path, out = written(tmp_path, raw), tmp_path / "out.json"
    done = CliRunner().invoke(trace, ["--cases", str(path), "--mode", "iptables", "--json", str(out)])
    (verdict,) = json.loads(out.read_text())["cases"]
    assert verdict["unread"] == ["mood", "config.weather", "flows[].colour", "flows[].expect.speed"]
    assert done.exit_code == 0 and "not judged, as not supported: mood" in done.output


@pytest.mark.parametrize("name", sorted(RAW))
def test_every_field_of_the_examples_is_known(name):
    assert read(DATA / name).unread == ()


def test_one_bad_file_does_not_hide_the_others(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text(RAW["019-etp-local.json"])
    done = CliRunner().invoke(trace, ["--cases", str(tmp_path), "--json", str(tmp_path / "out.txt")])
    bad, *others = json.loads((tmp_path / "out.txt").read_text())["cases"]
    assert done.exit_code == 2 and str(tmp_path / "a.json") in bad["error"] and not bad["passed"]
    assert [each["passed"] for each in others] == [True, True]


def test_a_mode_without_cases_is_not_a_success(tmp_path):
    (tmp_path / "b.json").write_text(RAW["019-etp-local.json"])
    done = CliRunner().invoke(trace, ["--cases", str(tmp_path), "--mode", "iptabels"])
    assert done.exit_code == 2 and "they are for iptables, nftables" in done.output


def test_every_field_of_the_ipvs_block_is_applied(tmp_path):
    raw = json.loads(RAW["113-ipvs-nodeport-tcp.json"])
    raw["config"]["ipvs"] = {"scheduler": "mh", "strictARP": True, "excludeCIDRs": ["9.0.0.0/8"], "tcpTimeout": "2m",
                             "tcpFinTimeout": 30, "udpTimeout": "1m30s", "syncPeriod": "30s"}  # fmt: skip
    config = read(written(tmp_path, raw)).proxy_config()
    assert (config.ipvs_scheduler, config.ipvs_strict_arp) == ("mh", True)
    assert [network.prefix for network in config.ipvs_exclude_networks] == [8]
    timeouts = config.ipvs_tcp_timeout_seconds, config.ipvs_tcp_fin_timeout_seconds, config.ipvs_udp_timeout_seconds
    assert timeouts == (120, 30, 90)
    raw["config"]["ipvs"] = {"shceduler": "rr"}
    with pytest.raises(CaseError, match="config.ipvs has no field shceduler"):
        read(written(tmp_path, raw))


@pytest.mark.parametrize(("change", "wrong"), [({"vs_timeout": 5}, "vs_timeout"), ({"vs_flags": []}, "vs_flags")])
def test_persistence_of_virtual_servers_is_judged(tmp_path, change, wrong):
    verdict = judge(read(written(tmp_path, json.loads(RAW["139-ipvs-session-affinity-timeout.json"]) | change)), "ipvs")
    assert [item["name"] for item in verdict["asserts"] if not item["passed"]] == [wrong]


@pytest.mark.parametrize("where", ["flow", "expect"])
@pytest.mark.parametrize(("mode", "accepted"), [("iptables", True), ("nftables", False)])
def test_an_accept_rule_can_be_required_by_the_flow_or_its_expectation(tmp_path, where, mode, accepted):
    raw = json.loads(RAW["019-etp-local.json"])
    expect = {"outcome": "no-op", "endpoints": [], "masquerade": False}
    flow = raw["flows"][2] | {"dest_ip": "192.168.0.2", "dest_port": 30000, "expect": expect}
    raw["flows"] = [flow]
    for wanted in (True, False):
        (flow if where == "flow" else expect)["explicit_accept"] = wanted
        assert judge(read(written(tmp_path, raw)), mode)["passed"] == (wanted == accepted)


def test_a_sequence_after_changes_may_refer_to_the_first_flows(tmp_path):
    raw = json.loads(RAW["089-aff-clientip-sticky.json"])
    again = [{"t": 30000, "flow": 0, "expect_endpoint": "any"}]
    again.append({"t": 30001, "flow": 0, "expect_endpoint": "same-as-previous"})
    raw["then"] = [{"ops": [], "sequence": again}]
    verdict = judge(read(written(tmp_path, raw)), "nftables")
    assert verdict["passed"] and [flow["stage"] for flow in verdict["flows"]][-2:] == [1, 1]


@pytest.mark.parametrize(
    ("partial", "asserts", "passed"),
    [
        (False, {"ipsets": {"A": ["1"]}}, False),
        (True, {"ipsets": {"A": ["1"]}}, True),
        (True, {"ipsets": {"A": ["3"]}}, False),
        (True, {"ipsets": {"A": []}}, False),
        (True, {"ipsets": {"B": []}}, True),
        (False, {"ipsets": {"KUBE-LOAD-BALANCER-SOURCE-CIDR": ["4"]}}, True),
        (False, {"virtual_servers": {"x": ["1", "2"], "[::1]:80/TCP": ["[::2]:80"]}}, False),
        (False, {"virtual_servers": {"x": ["1", "2"], "y": [], "[::1]:80/TCP": ["[::2]:80"]}}, True),
        (False, {"virtual_servers": {"x": ["1", "2"], "y": [], "::1:80/TCP": ["::2:80"]}}, True),
        (False, {"virtual_servers": {"x": ["2", "1"]}}, False),
        (True, {"virtual_servers": {"x": ["2", "1"]}}, True),
        (True, {"virtual_servers": {"x": ["1"]}}, False),
        (False, {"metrics": {'m{b="2",a="1"}': 4}}, True),
        (False, {"metrics": {'m{a="1",b="2",ip_family="IPv4"}': 4}}, True),
        (False, {"metrics": {'m{a="1"}': 4}}, False),
        (False, {"weather": "fine"}, False),
    ],
)
def test_a_partial_expectation_ignores_other_fields(partial, asserts, passed):
    facts = {"ipsets": {"A": ["1", "2"], "KUBE-6-LOAD-BALANCER-SOURCE-CID": ["4"]}}
    facts["virtual_servers"] = {"x": ["1", "2"], "y": [], "[::1]:80/TCP": ["[::2]:80"]}
    facts["metrics"] = {'m{a="1",b="2"}': 4}
    (verdict,) = judged_asserts(asserts, facts, partial, 0)
    assert verdict["passed"] == passed
