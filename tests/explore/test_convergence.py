"""Convergence of each change: measured by a replay, read from its result, observed by a chaos run."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.explore.convergence import of_result, of_run
from harness.explore.run import read_run
from tests.chaos_report.runs import ordinary

from .conftest import DEMO, serving
from .test_page import AT, eventually, get, jump, opened, refused

pytestmark = pytest.mark.xdist_group("chromium")

LANE = "return document.querySelector('svg.drawn[aria-label^=Convergence]')?.ariaLabel"
SLOWEST = "[...document.querySelectorAll('[aria-label=\"Slowest changes\"] tbody tr')]"


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The result of a replay of the demo in memory, as a file."""
    path = tmp_path_factory.mktemp("result") / "result.json"
    done = CliRunner().invoke(main, ["replay", DEMO, "--kernel", "memory", "--no-verify", "--json", str(path)])
    assert done.exit_code == 0, done.output
    return path


def test_convergence_is_measured_on_request(chromium, page, demo, result):
    opened(chromium, page)
    assert chromium.run(LANE) is None, "nothing is replayed unasked"
    chromium.run("document.querySelector('[aria-label=Convergence] button').click()")
    eventually(chromium, f"return {SLOWEST}.length", 20)
    measured = get(page, "api/convergence?mode=nftables")
    change = json.loads(result.read_text())["change"]
    assert len(measured["points"]) == change["count"]
    for point in measured["points"]:
        assert demo.events[point["count"] - 1].seq == point["seq"]
        assert sum(point["parts"].values()) == pytest.approx(point["seconds"], abs=1e-6)
        assert point["parts"]["pacing"] <= 1.1, "minSyncPeriod, and how late its timer may be"
    slowest = max(measured["points"], key=lambda point: point["seconds"])
    chromium.run(f"{SLOWEST}[0].querySelector('button').click()")
    shown = "return document.querySelector('section[aria-label=Event]').textContent.includes(arguments[0])"
    eventually(chromium, shown.replace("arguments[0]", f"'seq {slowest['seq']}'"), True)
    eventually(chromium, shown.replace("arguments[0]", "'minSyncPeriod'"), True)
    code, text = refused(f"{page}api/convergence?mode=nftables&node=nobody")
    assert code == 400 and json.loads(text)["error"].startswith(f"{DEMO}: no Node 'nobody'")
    assert "in memory" in measured["source"] and "not the time a kernel takes" in measured["source"]


def test_a_replays_result_is_shown_instead(demo, result):
    found, stretches = of_result(str(result), demo.sha256), json.loads(result.read_text())["timeline"]["stretches"]
    assert {(each.at_seconds, each.seconds) for each in found.stretches} == {
        (each["at_seconds"], each["convergence_seconds"]) for each in stretches if each["changes"]
    }
    with pytest.raises(ValueError, match="is the result of another recording"):
        of_result(str(result), "0" * 64)
    with pytest.raises(ValueError, match="not a result of `harness replay --json`"):
        of_result("docs/schemas/replay.json", demo.sha256)


REQUESTS = "return document.querySelector('svg.drawn[aria-label^=Requests]')?.ariaLabel"
MEANWHILE = "return document.querySelector('.timeline p.note').textContent"


def test_a_chaos_run_shows_what_its_requests_and_kernels_did(chromium, tmp_path):
    folder = ordinary(tmp_path / "run")
    finding = {"fault": "pod-kill", "began": 4.0, "ended": 8.0, "pods": ["web-1"], "nodes": [], "lost": 20}
    (folder / "verdict.json").write_text(json.dumps({"value": True, "findings": [finding]}))
    facts = json.loads((folder / "run.json").read_text())["observations"]
    found = of_run(read_run(folder))
    assert [point.seconds for point in found.points] == [pytest.approx(each["seen"] - each["asked"]) for each in facts]
    with serving(str(folder)) as url:
        chromium.show(url, 1400, 900, "light")
        eventually(chromium, f"return {SLOWEST}.length", len(facts))
        assert chromium.run(f"return {SLOWEST}[0].cells[0].textContent") == "250 ms"
        eventually(chromium, LANE, "Convergence over time: up to 250 ms")
        assert chromium.run(REQUESTS) == "Requests over time: up to 110 per second, 21 lost, p99 up to 5.9 ms"
        assert chromium.run("return document.querySelectorAll('svg.drawn .fault').length") == 3, "one in each lane"
        jump(chromium, "6s")
        eventually(
            chromium,
            MEANWHILE,
            "At 6.000s: 100 requests answered, 0 lost, p99 4.6 ms, in this second; in force: pod-kill (web-1)",
        )
        chromium.run("document.querySelector('[aria-label=Faults] tbody button').click()")
        eventually(chromium, AT, str(get(url, "api/index?position=4s")["at"]))
