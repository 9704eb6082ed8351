"""The catalogue matches the current code, the runner distinguishes a bug from none, and a sample is detected."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from chaos.faults import FAULTS
from tests.mutants.__main__ import main
from tests.mutants.catalogue import ROOT, CatalogueError, Edit, Mutant, edited, mutants, survivors
from tests.mutants.checkout import private_copy, run
from tests.mutants.gates import BROKEN, CAUGHT, MISSED, Finding
from tests.mutants.results import Results
from tests.mutants.table import BEGIN, END, markdown, summary
from tests.waiting import until as eventually

ALL = mutants()
SAMPLE = ("sel-no-zone", "n-firewall-late", "i-hairpin", "v-mark-bit", "v-servers-stay")
"""Of every mode; those of ipvs in memory, where only a change brings some about."""


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.id)
def test_every_bug_fits_todays_code_and_is_python(mutant):
    for file, text in edited(mutant).items():
        assert file.startswith("engine/")
        ast.parse(text)


def test_there_are_enough_of_every_kind():
    assert len({mutant.id for mutant in ALL}) == len(ALL) >= 120
    assert min(Counter(mutant.mode for mutant in ALL)[mode] for mode in ("nftables", "iptables", "ipvs")) >= 20
    assert min(Counter(mutant.group for mutant in ALL).values()) >= 20
    assert len({(mutant.mode, *sorted(edited(mutant).items())) for mutant in ALL}) == len(ALL), "two are the same"


def test_known_survivors_are_mutants_and_have_reasons():
    assert set(survivors()) <= {mutant.id for mutant in ALL}
    assert all(len(reason) > 20 for reason in survivors().values())


@pytest.mark.parametrize(("old", "count"), [("nowhere in this file", 0), ("import", 3)])
def test_an_edit_that_does_not_fit_is_refused(old, count, tmp_path):
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "x.py").write_text("import os\nimport re\nimport io\n")
    with pytest.raises(CatalogueError, match=f"made-up: its text occurs {count} times in engine/x.py"):
        edited(Mutant("made-up", "nftables", "", "shared", (Edit("engine/x.py", old, ""),)), tmp_path)


def test_only_the_copy_has_the_bug_and_it_is_imported():
    mutant = next(m for m in ALL if m.id == "sel-unready")
    code = "import engine.topology as t, harness.judge.oracle as o; print(t.__file__, o.__file__)"
    with private_copy(mutant) as folder:
        done = run(folder, ["-c", code], 30)
        assert done.output.split() == [f"{folder}/engine/topology.py", f"{ROOT}/harness/judge/oracle/__init__.py"]
        assert (folder / "engine" / "topology.py").read_text() != (ROOT / "engine" / "topology.py").read_text()
    assert not folder.exists()
    assert run(Path("/"), ["-c", "import time; time.sleep(60)"], 0.5).code is None


def test_results_are_kept_and_a_survivor_is_reported(tmp_path):
    results = Results(tmp_path / "r.json")
    results.add(ALL[0].id, "start", Finding(MISSED, "", 1.0))
    results.add(ALL[1].id, "start", Finding(CAUGHT, "exit 5: a difference", 1.0))
    again = Results(tmp_path / "r.json")
    assert again.finding(ALL[1].id, "start").outcome == CAUGHT
    text, wrong = summary(ALL[:2], again, {})
    assert wrong == 1 and f"not caught: {ALL[0].id}" in text
    assert summary(ALL[:2], again, {ALL[0].id: "harmless"})[1] == 0
    again.add(ALL[0].id, "rules", Finding(BROKEN, "a traceback", 1.0))
    assert summary(ALL[:2], again, {ALL[0].id: "harmless"})[1] == 1, "a gate that broke down says nothing of a survivor"
    assert re.search(rf"\| {ALL[0].id} \|.*\| – \|", markdown(ALL, again, {}))
    again.forget({ALL[0].id}, ["start"])
    assert again.finding(ALL[0].id, "start") is None


def test_a_sample_is_caught(kernel_namespaces, tmp_path):
    path = tmp_path / "found.json"
    gates = ["--gate", "memory", "--gate", "start", "--first"]
    done = CliRunner().invoke(main, [*SAMPLE, *gates, "--results", str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert set(json.loads(path.read_text())["found"]) == set(SAMPLE)


def test_the_page_holds_the_table():
    page = (ROOT / "docs" / "verification.md").read_text()
    table = page[page.index(BEGIN) : page.index(END)]
    assert set(re.findall(r"^\| ([\w.-]+) \| (?:nftables|iptables|ipvs) \|", table, re.MULTILINE)) == {
        m.id for m in ALL
    }
    assert all(f"| {reason} |" in table for reason in survivors().values()), "make it again with --table"


def test_bugs_missed_earlier_are_detected_now():
    page = (ROOT / "docs" / "verification.md").read_text()
    (section,) = re.findall(r"^## [^\n]*once[^\n]*\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    rows = section.splitlines()
    held = [re.findall(r"`([^`]+)`", row.split("|")[2]) for row in rows if row.startswith("| ")][2:]
    ids = {mutant.id for mutant in ALL} | set(FAULTS)
    assert len(held) > 20 and all(held)
    assert [name for names in held for name in names if name not in ids and not (ROOT / "tests" / name).exists()] == []


def test_a_run_that_is_ended_leaves_nothing(kernel_namespaces, tmp_path):
    command = [
        sys.executable,
        "-m",
        "tests.mutants",
        "mq-bit",
        "--gate",
        "rules",
        "--results",
        str(tmp_path / "r.json"),
    ]
    runner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started = eventually(lambda: psutil.Process(runner.pid).children(), "a child of the runner")
    runner.terminate()
    assert runner.wait(60) == 143
    eventually(lambda: not any(_runs(child.pid) for child in started), "its children have ended")


def _runs(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
