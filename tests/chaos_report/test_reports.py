"""Contents of page, Markdown and JUnit, of runs that succeeded, failed, or did not start."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
from pathlib import Path
from xml.etree import ElementTree

import pytest
from chaoslib.exceptions import InterruptExecution
from click.testing import CliRunner

from chaos import control
from chaos.experiment import EXTENSION
from chaos.judge import VERDICT, judge_folder
from chaos.options import KEY, RunOptions
from chaos.report import HTML, JUNIT, LOST, MARKDOWN
from chaos.verdict import judge
from chaos.verdict.end_reason import read_reason, write_reason
from chaos.verdict.journal import write_journal
from harness.cli import main
from tests.chaos_report import runs

GOLDEN = Path(__file__).with_name("golden")
FILES = (VERDICT, HTML, MARKDOWN, JUNIT)


def files_of(folder: Path) -> dict[str, str]:
    judge_folder(folder)
    names = (*FILES, LOST) if (folder / LOST).exists() else FILES
    return {name: (folder / name).read_text() for name in names}


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory):
    return files_of(runs.ordinary(tmp_path_factory.mktemp("ordinary") / "run"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return files_of(runs.broken(tmp_path_factory.mktemp("broken") / "run"))


@pytest.mark.parametrize("name", [MARKDOWN, JUNIT, VERDICT])
def test_reports_of_an_ordinary_run_equal_the_golden_files(ordinary, name):
    assert ordinary[name] == (GOLDEN / name).read_text()


def test_the_same_folder_gives_the_same_bytes(tmp_path, ordinary):
    folder = runs.ordinary(tmp_path / "elsewhere")
    assert files_of(folder) == ordinary
    assert files_of(folder) == ordinary, "made again over what is there"


def test_the_page_contains_all_facts(ordinary):
    page = ordinary[HTML]
    for words in (
        "Verdict: passed", "error budget", "seed 7", "at most 5.00 % of requests",
        "harness chaos run made.yaml --seed 7",
        "2.00 s", "2.06 s", "2.16 s", "2.26 s", "steps seconds=5, factors=1 2", "5.85 ms", "2.50 %", "pods=1",
        "inject 0.00 s  pod.signal pod=web-1, number=SIGKILL", "6.1",
    ):  # fmt: skip
        assert words in page, words
    assert re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']*""", page) == [], "no other file"
    assert "@import" not in page and "url(" not in page
    assert page.count('id="') == len(set(re.findall(r' id="([^"]+)"', page))), "an id stands once"


def test_hostile_texts_are_escaped(broken):
    page = broken[HTML]
    assert "<script>alert" not in page and "<b>cut" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    text = broken[MARKDOWN]
    assert "<" not in text
    for line in text.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) in (6, 9), "a row has as many cells as its head"
    assert not re.search("[\x00-\x08\x0b-\x1f]", page + text + broken[JUNIT])


def junit(text: str) -> ElementTree.Element:
    """The document, after checks that apply to every document."""
    suites = ElementTree.fromstring(text)
    (suite,) = suites
    cases = suite.findall("testcase")
    for name, kind in (("failures", "failure"), ("errors", "error")):
        assert int(suite.get(name)) == int(suites.get(name)) == sum(c.find(kind) is not None for c in cases)
    assert int(suite.get("tests")) == int(suites.get("tests")) == len(cases) > 0
    assert suite.find("skipped") is None
    for case in cases:
        assert {"classname", "name", "time"} == set(case.attrib) and float(case.get("time")) >= 0
        assert [child.tag for child in case] in ([], ["system-out"], ["failure"], ["error"], ["error", "system-out"])
    return suite


def test_junit_has_a_failure_for_false_and_an_error_for_unknown(broken):
    by_name = {case.get("name"): case for case in junit(broken[JUNIT]).findall("testcase")}
    assert by_name["error budget"].find("failure") is not None
    assert by_name["pod-hang"].find("error") is not None
    assert by_name["1. pod-kill"].find("error").get("message") == "not injected"
    assert by_name["2. node-<b>cut"].find("error").get("message") == "not healed"


UNPROVEN = {
    "not finished": {"finished": False},
    "a fault was never tried": {
        "plan": {
            "seed": 7,
            "cluster": {"nodes": [], "pods": []},
            "steps": [runs._step(runs.fault(1, "pod-kill", 4))] * 2,
        }
    },
    "no objective": {"objectives": {}},
    "no plan": {"plan": None, "performed": [], "finished": False},
    "the load's log is not there": {"load": [{"name": "x", "where": "x", "file": "load/x.jsonl", "exit_code": 1}]},
}


@pytest.mark.parametrize("raw", UNPROVEN.values(), ids=UNPROVEN)
def test_missing_evidence_is_unknown_in_every_report(tmp_path, raw):
    folder = runs.write_run(tmp_path / "run", [runs.fault(1, "pod-kill", 4.0)], **raw)
    files = files_of(folder)
    assert json.loads(files[VERDICT])["value"] is None
    assert "Verdict: unknown" in files[HTML] and "Chaos verdict: unknown" in files[MARKDOWN]
    suite = junit(files[JUNIT])
    assert int(suite.get("errors")) > 0 and suite.get("failures") == "0"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"version": 2}', '{"version": 1}'])
def test_a_run_without_facts_is_reported_as_such(tmp_path, content):
    (tmp_path / "journal.json").write_text("{}")
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    result = CliRunner().invoke(main, ["chaos", "report", str(tmp_path)])
    assert result.exit_code == 3, result.output
    assert "Verdict: unknown" in (tmp_path / HTML).read_text()
    assert "run.json" in (tmp_path / MARKDOWN).read_text()
    assert junit((tmp_path / JUNIT).read_text()).get("errors") == "1"


def test_facts_of_the_wrong_type_are_reported(tmp_path):
    folder = runs.write_run(tmp_path / "run", [runs.fault(1, "pod-kill", 4.0)], objectives=3)
    result = CliRunner().invoke(main, ["chaos", "report", str(folder)])
    assert result.exit_code == 3 and f"{folder}/run.json: Expected `object`, got `int`" in result.output
    assert "without facts" in (folder / HTML).read_text()


def test_the_command_judges_again_with_the_exit_codes_of_run(tmp_path):
    run = ["chaos", "report"]
    for made, code, word in ((runs.ordinary, 0, "TRUE"), (runs.broken, 1, "FALSE")):
        folder = made(tmp_path / word)
        result = CliRunner().invoke(main, [*run, str(folder)])
        assert (result.exit_code, f"verdict: {word}" in result.output) == (code, True), result.output
        assert all((folder / name).stat().st_size for name in FILES)


def test_the_command_leaves_other_folders_alone(tmp_path):
    result = CliRunner().invoke(main, ["chaos", "report", str(tmp_path)])
    assert result.exit_code == 2 and "not the folder of a run" in result.output
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(main, ["chaos", "report", str(tmp_path / "none")]).exit_code == 2


def test_a_long_run_has_a_small_page(tmp_path):
    nodes = [f"node-{n}" for n in range(1, 13)]
    folder = runs.write_run(
        tmp_path / "run",
        [runs.fault(n + 1, "pod-kill", 10 + n * 35.0) for n in range(100)],
        [runs.failure(10 + n * 0.35, cause=f"cause {n % 8}") for n in range(10_000)],
        [runs.followed(node, 12 + n * 1.75, n % 7 / 10, n % 2 == 0) for n in range(2_000) for node in nodes],
        seconds=3600.0,
    )
    files = files_of(folder)
    assert len(files[HTML]) < 1_000_000 and len(files[MARKDOWN]) < 20_000
    assert "40 more faults" in files[MARKDOWN]


def test_a_fault_without_effect_is_reported_as_such(tmp_path):
    """A row of dashes is never the result."""
    folder = runs.write_run(
        tmp_path / "run",
        [runs.fault(1, "engine-crash", 4.0, nodes=["node-1"]), runs.fault(2, "packet-delay", 12.0, pods=[])],
    )
    files = files_of(folder)
    crash = re.compile(r"the rules stayed in place while the engine was down: 0 of [\d,]+ requests lost")
    for name in (HTML, MARKDOWN):
        assert crash.search(files[name]), name
        assert "no endpoint was removed: 0 of" in files[name]
    assert crash.search(judge(folder).summary())


def test_lost_requests_are_listed_with_their_moment(ordinary):
    rows = list(csv.DictReader(io.StringIO(ordinary[LOST])))
    assert len(rows) == 21 and rows[0]["cause"] == "refused" and rows[0]["to_pod"] == "web-1"
    assert [float(row["at_seconds"]) for row in rows] == sorted(float(row["at_seconds"]) for row in rows)
    assert "harness replay events.jsonl --from 3.0s --until 5.0s" in ordinary[HTML]
    assert rows[-1]["cause"] == "timeout" and rows[-1]["to_node"] == "node-2"


def test_a_long_list_of_losses_is_truncated_with_a_note(broken):
    assert "The first 50 of 90." in broken[HTML]
    assert len(broken[LOST].splitlines()) == 91


def test_a_cause_has_one_colour_on_every_page(tmp_path):
    """Whatever else was lost, and however often."""
    colours = []
    for n, causes in enumerate((["timeout"], ["refused"] * 3 + ["timeout"])):
        losses = [runs.failure(5 + i / 10, cause=cause) for i, cause in enumerate(causes)]
        page = files_of(runs.write_run(tmp_path / str(n), [runs.fault(1, "pod-kill", 4.0)], losses))[HTML]
        colours.append(re.search(r'class="cause-(\d)"/></svg>timeout', page)[1])
    assert colours == ["1", "1"]


def test_the_page_explains_its_terms(ordinary):
    page = ordinary[HTML]
    for word in ("in force", "slices changed", "kernel converged", "error budget"):
        assert f"<dt>{word}</dt>" in page


@pytest.mark.parametrize("raw", [None, {"finished": False}])
def test_every_report_states_why_a_run_ended_early(tmp_path, raw):
    folder = tmp_path / "run"
    if raw:
        runs.write_run(folder, [runs.fault(1, "pod-kill", 4.0)], **raw)
    else:
        write_journal(folder := tmp_path, {"experiment": {"title": "A pod's process dies"}})
    write_reason(folder, "interrupted by SIGTERM")
    write_reason(folder, "what came of it")
    files = files_of(folder)
    for name in (HTML, MARKDOWN, JUNIT, VERDICT):
        assert "interrupted by SIGTERM" in files[name] and "what came of it" not in files[name]
        assert "No such file" not in files[name]
    assert junit(files[JUNIT]).get("name") == json.loads(files[VERDICT])["experiment"] != ""
    assert json.loads(files[VERDICT])["value"] is None
    assert junit(files[JUNIT]).find("testcase").find("error") is not None


def test_an_interruption_and_a_start_that_failed_leave_their_reason(tmp_path, monkeypatch):
    handlers: dict = {}
    monkeypatch.setattr(control.signal, "signal", handlers.setdefault)
    control._interrupt_once(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert read_reason(tmp_path / "run") == "interrupted by SIGTERM"
    options = {KEY: RunOptions(folder=tmp_path / "other")}
    with pytest.raises(InterruptExecution):
        control.before_experiment_control(
            {"title": "x", "method": [], "extensions": [{"name": EXTENSION}] * 2}, options
        )
    assert read_reason(tmp_path / "other").startswith("it could not begin: ")
