"""The command line of `harness fleet`: selections, gates and exit codes; the page."""

from __future__ import annotations

import json

import click
import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.cli.commands.fleet import selected
from harness.fleet.gates import judged
from harness.fleet.pictures import shade
from harness.fleet.result import FleetResult, SampledNode

DEMO = "recordings/demo.jsonl"
NAMES = [f"node-{n:02}" for n in range(10)]


def fleet(*options: str):
    return CliRunner().invoke(main, ["fleet", DEMO, "--workers", "0", *options])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    done = fleet(
        "--until", "60s", "--nodes", "node-000[12]", "--what-if", "minSyncPeriod=10s", "--max-p99", "0.5",
        "--html", str(folder / "page.html"), "--json", str(folder / "result.json"),
    )  # fmt: skip
    return done, json.loads((folder / "result.json").read_text()), (folder / "page.html").read_text()


def test_a_failed_gate_is_reported_and_the_sample_agrees(written):
    done, result, _ = written
    assert done.exit_code == 4 and "gate: --max-p99 0.5 s exceeded: " in done.output
    assert [each["agrees"] for each in result["samples"]] == [True]
    assert "node-0001: the same digest as its own replay in memory" in done.output
    assert [each["name"] for each in result["columns"]] == ["recorded", "minSyncPeriod=10s"]


def test_figures_add_up(written):
    _, result, _ = written
    recorded = result["columns"][0]
    for key in ("syncs", "syncs_for_nothing", "operations", "bytes"):
        assert recorded[key] == sum(each[key] for each in result["nodes"]) > 0
    zones = sum(each["count"] for each in recorded["by_zone"].values())
    assert zones == sum(each["count"] for each in recorded["by_kind"].values())
    assert zones == sum(each["nodes"] for each in result["changes"]) == sum(each["changes"] for each in result["nodes"])
    assert zones == sum(each["count"] for each in recorded["convergence_histogram"])
    heat = sum(sum(row["operations"]) for row in result["heat"]["rows"])
    assert heat == recorded["operations"]


def test_the_page_has_both_pictures_and_is_self_contained(written):
    page = written[2]
    assert page.count("<svg") == 4 and 'class="heat-' in page and 'class="bar-convergence"' in page
    assert "src=" not in page and 'href="http' not in page
    assert "minSyncPeriod=10s" in page and "failed" in page


def test_nodes_are_selected_by_number_and_pattern():
    assert selected("all", NAMES, "--nodes") == NAMES
    assert selected("2", NAMES, "--nodes") == ["node-00", "node-05"]
    assert selected("node-0[12]", NAMES, "--nodes") == ["node-01", "node-02"]
    for wrong in ("11", "web-*"):
        with pytest.raises(click.BadParameter):
            selected(wrong, NAMES, "--nodes")


def test_wrong_options_are_refused_before_any_work():
    assert "is not a setting to vary" in fleet("--what-if", "mode=ipvs").output
    assert "--scheduler has its own" in fleet("--scheduler", "tcp://127.0.0.1:1").output
    done = CliRunner().invoke(main, ["fleet", "-"])
    assert done.exit_code == 2 and "standard input" in done.output


def test_a_digest_that_differs_fails_with_3_and_an_unverified_kernel_is_unknown(written):
    one = SampledNode("node-1", "netns", "a", "b", "unknown", 0, 1.0, None, agrees=False)
    result = msgspec.structs.replace(msgspec.convert(written[1], FleetResult), samples=[one])
    digests, kernels = judged(result, {})
    assert (digests.objective.verdict, digests.code) == (False, 3) and "node-1" in digests.objective.why
    assert kernels.objective.verdict == "unknown" and "not verified" in kernels.objective.why


def test_colours_are_logarithmic():
    assert [shade(value, 1000) for value in (0, 1, 30, 1000)] == [0, 1, 3, 6]
