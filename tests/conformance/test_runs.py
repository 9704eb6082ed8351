"""Runs against real proxies: the engine, another one that supports a part, and its broken variants."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.cli.result_pages import page_of
from harness.conformance.entry import chosen, corpus
from harness.conformance.fuzz import fuzz
from harness.conformance.run import ProxyUnderTest, result_of, run
from harness.kube.proxy import OURS, Command
from tests.docs.test_schemas import check

FOREIGN = Path(__file__).parents[1] / "external" / "foreign.py"
BROKEN = Path(__file__).with_name("broken_engine.py")
SIMPLE = "inv-04-slice-before-service"
"""A Service comes and goes: cluster IPs alone, in IPv4."""


def foreign(*fault: str) -> ProxyUnderTest:
    command = Command("foreign", (sys.executable, str(FOREIGN), "{api}", "{node}", "10.0.0.0/8", *fault))
    return ProxyUnderTest(command, "iptables", (1, 37), None, ("--mode", "iptables"))


def judged(target: ProxyUnderTest, *names: str) -> dict:
    return msgspec.to_builtins(result_of(target, run(target, chosen(corpus(), names)), 1.0))


def test_the_engine_passes_and_every_format_reports_it(tmp_path, kernel_namespaces):
    outs = {name: tmp_path / f"out.{name}" for name in ("json", "junit", "html")}
    cases = [
        "sync-01-a-udp-flow-leaves-an-endpoint-that-went-while-the-proxy-was-down",
        "ITP-02",
        "np-02-some-addresses",
    ]
    words = [part for case in cases for part in ("--case", case)] + [f"--{name}={path}" for name, path in outs.items()]
    done = subprocess.run([sys.executable, "-m", "harness", "conformance", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    found = json.loads(outs["json"].read_text())
    check("conformance.json", found)
    assert found["passed"] and found["counts"]["passed"] >= 5 and found["counts"]["failed"] == 0
    suite = ElementTree.parse(outs["junit"]).getroot()
    assert int(suite.get("tests")) == len(found["cases"]) and suite.get("failures") == "0"
    assert "Verdict: passed" in outs["html"].read_text()
    pages = outs["html"].read_text(), page_of(str(outs["json"]), "") or ""
    assert len({page.rpartition("<pre><code>")[0] for page in pages}) == 1, "harness explore shows it, but the command"
    assert "ITP-02" in done.stdout


def test_another_proxy_passes_what_it_supports_and_fails_the_rest(kernel_namespaces):
    found = judged(foreign(), SIMPLE, "svc-03-protocols-apart")
    simple, protocols = found["cases"][1], found["cases"][0]
    assert (simple["id"], simple["state"]) == (SIMPLE, "passed"), simple
    assert protocols["state"] == "failed" and not found["passed"]
    packets = [each["packet"] for each in protocols["failures"]]
    assert len(packets) == 2 and "(UDP)" in packets[0] and "(SCTP)" in packets[1]
    assert protocols["failures"][0]["expected"] == "dnat to 10.180.1.1:80"
    assert protocols["replay"].endswith("--case svc-03-protocols-apart")


@pytest.mark.parametrize(
    ("fault", "packet", "happened"),
    [("keeps", "10.0.0.2 to 172.30.0.41:80", "dnat to 10.180"), ("crashes", "", "no licence was found")],
)
def test_a_broken_proxy_fails_with_the_observed_outcome(fault, packet, happened, kernel_namespaces):
    (case,) = judged(foreign(fault), SIMPLE)["cases"]
    assert case["state"] == "failed"
    assert packet in case["failures"][-1]["packet"] and happened in case["failures"][-1]["happened"]


def test_a_random_failure_is_reduced_and_its_command_repeats_it(tmp_path, kernel_namespaces):
    """The engine, but endpoints that drain count as ready ones: that takes a Service with both."""
    proxy = f"{sys.executable} {BROKEN} --config={{config}} --hostname-override={{node}}"
    first = by_chance(tmp_path, "--external", f"broken={proxy}", "--fuzz", "1", "--seed", "11")
    (case,) = first["cases"]
    assert case["why"] == "2 of 11 events show it"
    assert [event["resource"] for event in case["events"]] == ["services", "endpointslices"]
    conditions = [each.get("conditions") for each in case["events"][1]["object"]["endpoints"]]
    assert len(conditions) <= 3 and {"ready": False, "serving": True, "terminating": True} in conditions
    assert {each["step"] for each in case["failures"]} == {0}
    again = shlex.split(case["replay"])
    assert again[:2] == ["harness", "conformance"]
    (repeated,) = by_chance(tmp_path, *again[2:])["cases"]
    assert (repeated["events"], repeated["why"]) == (case["events"], case["why"])


def by_chance(folder: Path, *words: str) -> dict:
    path = folder / "found.json"
    done = CliRunner().invoke(main, ["conformance", *words, "--json", str(path)])
    assert done.exit_code == 5, done.output
    found = json.loads(path.read_text())
    check("conformance.json", found)
    for event in found["cases"][0]["events"]:
        assert json.dumps(event) in done.output
    return found


def test_a_proxy_that_follows_no_change_is_given_up(kernel_namespaces):
    results = fuzz(foreign("crashes"), 5, 1)
    assert [len(result.failures) for result in results] == [1] * 5
    assert [result.seconds > 0 for result in results] == [True] * 3 + [False] * 2


def test_random_clusters_are_the_same_for_a_seed(kernel_namespaces):
    ours = ProxyUnderTest(OURS, "nftables", (1, 37), None, ("--mode", "nftables"))
    assert [result.state for result in fuzz(ours, 2, 11)] == ["passed", "passed"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--case", "HAIR-99"], "'HAIR-99' is neither a case nor a rule"),
        (["--external", "kube-proxy"], "NAME=COMMAND is needed"),
        (["--fuzz", "2", "--case", "HAIR-01"], "--fuzz makes its own cases"),
    ],
)
def test_bad_options_are_refused(words, said):
    done = CliRunner().invoke(main, ["conformance", *words])
    assert done.exit_code == 2 and said in done.output


def test_the_list_names_every_case():
    done = CliRunner().invoke(main, ["conformance", "--list"])
    assert done.exit_code == 0
    assert len(done.output.splitlines()) == len(corpus())


def test_without_the_packages_of_the_proxy_nothing_is_judged(monkeypatch):
    monkeypatch.setattr("harness.extras.find_spec", lambda module: None)
    done = CliRunner().invoke(main, ["conformance"])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: this needs the Python package kubernetes") and done.stderr.count("\n") == 1
