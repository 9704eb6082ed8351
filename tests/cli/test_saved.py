"""`harness compare` of results that were written before, as a gate, and what an interruption leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from chaos.judge import judge_folder
from tests.chaos_report import runs
from tests.cli.here import harness
from tests.report.results import DEMO, compared, replayed, slower

HARNESS = [sys.executable, "-m", "harness"]
QUICK = ("--modes", "nftables,userspace", "--kernel", "memory")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    result = replayed(folder)
    slow = slower(result, "iptables", 40)
    made = {
        "fast": result,
        "slow": slower(result, "nftables", 2),
        "other": slow,
        "both": compared(result, slow),
        "upgrade": {"source": "x", "modes": ["iptables"], "kube_versions": [], "changes": []},
        "list": [],
        "cut": {"engine": {"mode": "nftables"}, "change": {}},
    }
    for name, value in made.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "text.json").write_text("no JSON")
    return {name: folder / f"{name}.json" for name in (*made, "text", "absent")}


def test_two_replays_figure_by_figure(files, tmp_path):
    done = harness(
        "compare", files["fast"], files["slow"], "--json", tmp_path / "c.json", "--html", tmp_path / "c.html"
    )
    assert done.returncode == 0, done.stderr
    figures = {each["name"]: each for each in json.loads((tmp_path / "c.json").read_text())["figures"]}
    assert figures["compute + apply p99"]["change_percent"] == pytest.approx(100)
    assert figures["operations"]["change_percent"] == 0
    assert "+100.0 %" in done.stdout and "compute + apply p99, ms" in done.stdout
    assert "compute + apply p99, ms" in (tmp_path / "c.html").read_text()


@pytest.mark.parametrize(
    ("before", "after", "limit", "code"), [("fast", "slow", 101, 0), ("fast", "slow", 99, 4), ("slow", "fast", 0, 0)]
)
def test_a_worse_figure_fails_its_gate(files, before, after, limit, code):
    done = harness("compare", files[before], files[after], "--max-worse", limit)
    assert done.returncode == code
    assert ("gate: --max-worse 99 %: nftables: compute + apply p50 +100.0 %" in done.stderr) == (code == 4)


def test_modes_are_paired_by_name_and_single_ones_with_each_other(files):
    done = harness("compare", files["both"], files["fast"], "--json", "-")
    assert {each["mode"] for each in json.loads(done.stdout)["figures"]} == {"nftables"}


@pytest.mark.parametrize("name", ["upgrade", "list", "cut", "text", "absent"])
def test_a_file_that_is_no_result_is_one_line(files, name):
    done = harness("compare", files["fast"], files[name])
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and str(files[name]) in done.stderr


def test_two_chaos_runs(tmp_path, files):
    for name in ("ordinary", "broken"):
        getattr(runs, name)(tmp_path / name)
        judge_folder(tmp_path / name)
    done = harness("compare", tmp_path / "ordinary", tmp_path / "broken", "--json", tmp_path / "c.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["kind"] == "chaos"
    assert {"requests sent", "requests lost", "latency p99"} <= {each["name"] for each in found["figures"]}
    assert any("experiment" in line for line in found["remarks"])
    mixed = harness("compare", tmp_path / "ordinary", files["fast"])
    assert mixed.returncode == 2 and "they are not comparable" in mixed.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a", "b", "c"), "give one SOURCE or two results"),
        (("a", "b", "--baseline", "c"), "give one SOURCE or two results"),
        ((DEMO, "--max-worse", "5"), "--max-worse needs --baseline"),
        ((DEMO, "--baseline", "/absent"), "/absent: No such file or directory"),
    ],
)
def test_results_of_different_commands_are_rejected(arguments, words):
    done = harness("compare", *arguments)
    assert done.returncode == 2 and words in done.stderr


def test_a_baseline_is_compared_with_a_new_measurement(files):
    done = harness("compare", DEMO, *QUICK, "--until", "10s", "--baseline", files["both"], "--max-worse", "1000000")
    assert done.returncode == 0, done.stderr
    assert "compute + apply p99, ms" in done.stdout and f"before: {files['both']}, after: now\n" in done.stdout


def test_each_mode_is_reported_as_it_ends_and_kept_when_interrupted(tmp_path):
    command = [*HARNESS, "compare", DEMO, *QUICK, "--json", str(tmp_path / "c.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    page, complaint = process.communicate(timeout=60)
    assert first.startswith("nftables: compute + apply p99")
    assert process.returncode == 130 and "interrupted" in complaint
    assert "compute + apply p99" in page and "behave identically" not in page
    written = json.loads((tmp_path / "c.json").read_text())
    assert [run["result"] is None for run in written["modes"]] == [False, True]
    assert written["differences"] is None
