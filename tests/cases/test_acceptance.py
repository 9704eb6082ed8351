"""The example cases, by tracer and by real packets, and the command that judges them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.acceptance.cases import CaseError, load
from harness.acceptance.observer import open_observer
from harness.acceptance.run import judge
from harness.cli.commands.trace import trace
from harness.conformance.corpus import CASES_FOLDER

DATA = CASES_FOLDER
CASES = [(mode, case) for case in load(DATA) for mode in ("iptables", "nftables") if mode in case.modes]
EVERY = pytest.mark.parametrize(
    ("mode", "case"), [pytest.param(mode, case, id=f"{case.name} in {mode}") for mode, case in CASES]
)


def failures(verdict: dict) -> list:
    return [item for item in verdict["flows"] + verdict["asserts"] if not item["passed"]] + [verdict.get("error")]


@EVERY
def test_the_tracer_finds_the_expected_outcomes(mode, case):
    assert failures(judge(case, mode)) == [None]


@EVERY
def test_the_kernel_produces_the_expected_outcomes(mode, case, kernel_namespaces):
    verdict = judge(case, mode, open_observer)
    assert failures(verdict) == [None]
    assert all(flow["kernel"]["attempts"] == flow["kernel"].get("answered", flow["kernel"]["attempts"])
               for flow in verdict["flows"] if isinstance(flow["kernel"].get("attempts"), int))  # fmt: skip


def changed(tmp_path: Path, name: str, change) -> Path:
    raw = json.loads((DATA / name).read_text())
    change(raw)
    path = tmp_path / "case.json"
    path.write_text(json.dumps(raw))
    return path


def test_a_wrong_expectation_fails_and_is_reported(tmp_path):
    def other(raw):
        raw["flows"][0]["expect"] = {"outcome": "drop", "endpoints": [], "masquerade": False}

    path, out = changed(tmp_path, "019-etp-local.json", other), tmp_path / "out.json"
    done = CliRunner().invoke(trace, ["--cases", str(path), "--mode", "nftables", "--json", str(out)])
    assert done.exit_code == 1
    (verdict,) = json.loads(out.read_text())["cases"]
    assert (verdict["name"], verdict["mode"], verdict["passed"]) == ("etp-local", "nftables", False)
    first, *others = verdict["flows"]
    assert not first["passed"] and first["expected"]["outcome"] == "drop" and first["actual"]["outcome"] == "dnat"
    assert others and all(flow["passed"] for flow in others)


def test_a_broken_affinity_fails(tmp_path):
    def unstick(raw):
        next(o for o in raw["objects"] if o["kind"] == "Service")["spec"]["sessionAffinity"] = "None"

    (case,) = load(changed(tmp_path, "089-aff-clientip-sticky.json", unstick))
    wrong = failures(judge(case, "nftables"))
    assert [item["name"] for item in wrong[:-1]] == [
        "connection 2 at 1 s",
        "connection 3 at 2 s",
        "connection 4 at 10801 s",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw["flows"][0].update({"from": "moon"}), "'moon' is none of pod-local"),
        (lambda raw: raw["flows"][0]["expect"].update(outcome="maybe"), "'maybe' is none of dnat"),
        (lambda raw: raw["flows"][0].pop("dest_ip"), "field 'dest_ip' is missing"),
        (lambda raw: raw["objects"].append({"kind": "Pod", "metadata": {"name": "x"}}), "object of kind 'Pod'"),
        (lambda raw: raw.update(min_version="soon"), "min_version 'soon'"),
        (lambda raw: raw.pop("config"), "a JSON object with config"),
    ],
)
def test_bad_cases_are_rejected_before_any_is_run(tmp_path, change, words):
    path = changed(tmp_path, "019-etp-local.json", change)
    with pytest.raises(CaseError, match="case.json"):
        list(load(path))
    done = CliRunner().invoke(trace, ["--cases", str(path)])
    assert done.exit_code == 2 and words in done.output and str(path) in done.output


def test_an_unavailable_mode_has_not_passed(tmp_path):
    def elsewhere(raw):
        raw["config"]["modes"] = ["telepathy"]

    done = CliRunner().invoke(trace, ["--cases", str(changed(tmp_path, "019-etp-local.json", elsewhere))])
    assert done.exit_code == 1 and "mode telepathy has no tracer" in done.output
