"""`harness bench` for real: killed and continued, against a baseline, other proxies, and its page in a browser."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from harness.bench.churn import Collector, batches
from harness.bench.history import line_of
from harness.bench.page import page
from harness.bench.result import BenchResult
from harness.bench.rows import CHURNS, SYNC_ONLY
from harness.bench.verdict import steps_of
from harness.cli import main
from harness.cli.result_pages import page_of
from harness.log.synth import SynthOptions, generate
from tests.axe import violations
from tests.chaos_report.chromium import CONTRAST, OVERFLOW
from tests.docs.test_schemas import check
from tests.external.recording import CIDR, write
from tests.external.test_external import FOREIGN
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("chromium")

COLD, STEADY = "nftables-30x3-cold-start-engine", "nftables-60x3-steady-engine"


def command(folder: Path, *options: str) -> list[str]:
    rows = [word for row in (COLD, STEADY) for word in ("--rows", row)]
    return ["bench", *rows, "--baseline", sys.executable, "--starts", "2", "--out", str(folder / "bench"), *options]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, kernel_namespaces) -> Path:
    """The folder of a run that was killed after its first row, and continued."""
    folder = tmp_path_factory.mktemp("bench")
    first = folder / "bench" / "rows" / f"{COLD}.json"
    with subprocess.Popen([sys.executable, "-m", "harness", *command(folder)], stderr=subprocess.DEVNULL) as process:
        until(first.exists, "the first row is measured")
        process.send_signal(signal.SIGKILL)
    before = first.read_bytes()
    outputs = [word for kind in ("json", "html", "markdown") for word in (f"--{kind}", str(folder / f"out.{kind}"))]
    gate = ["--fail-on", "400", "--history", str(folder / "history.jsonl")]
    done = CliRunner().invoke(main, command(folder, *gate, *outputs, "--", "--benchmark-sort=name"))
    assert done.exit_code == 0, done.output
    assert "continuing: 1 of 2 rows are measured" in done.output and first.read_bytes() == before
    return folder


def test_the_result_is_what_the_schema_says(finished):
    found = json.loads((finished / "out.json").read_text())
    check("bench.json", found)
    assert "<svg" in (page_of(str(finished / "out.json"), "") or ""), "harness explore shows it"
    cold, steady = found["rows"]
    assert (cold["state"], cold["first_sync"]["count"], cold["change"]) == ("measured", 6, None)
    assert steady["change"]["count"] == 320 and steady["rules"] > 100 and steady["elements"] > 60 * 3
    assert set(steady["references"]) == {"json", "loop", "netlink"}
    ratios = {(each["figure"], each["clock"]): each for each in steady["ratios"]}
    assert ratios["change", "cpu_seconds"]["pairs"] == 320 and ratios["elements", None]["ratio"] == 1
    assert found["gate"]["passed"] is True and found["gate"]["judged"] >= 8
    assert len((finished / "history.jsonl").read_text().splitlines()) == 1


def test_json_has_the_format_of_pytest_benchmark(finished):
    held = json.loads((finished / "bench" / "benchmark.json").read_text())
    rounds = {each["name"]: each["stats"]["rounds"] for each in held["benchmarks"]}
    assert rounds == {
        f"test_first_sync[{COLD}]": 6, f"test_first_sync[{STEADY}]": 4, f"test_change[{STEADY}]": 320,
    }  # fmt: skip
    medians = {each["name"]: each["stats"]["median"] for each in held["benchmarks"]}
    ours = json.loads((finished / "out.json").read_text())["rows"][1]["change"]["seconds"]
    assert ours["min"] < medians[f"test_change[{STEADY}]"] < ours["p99"]


def test_markdown_begins_with_the_verdict(finished):
    text = (finished / "out.markdown").read_text()
    assert text.startswith("## Benchmarks: passed\n") and "| nftables | 60 x 3 | steady | engine |" in text


def test_other_proxies_against_each_other(tmp_path, kernel_namespaces):
    """On a cluster that a small proxy can follow: one that keeps what was deleted, and one that crashes."""
    recordings = tmp_path / "bench" / "recordings"
    recordings.mkdir(parents=True)
    write(recordings / "3x1-steady.jsonl")
    foreign = f"{sys.executable} {FOREIGN[1]} {{api}} {{node}} {CIDR}"
    proxies = {"keeps": f"{foreign} keeps", "gone": f"{foreign} crashes", "old": foreign}
    options = [word for name, text in proxies.items() for word in ("--external", f"{name}={text}")]
    options += ["--rows", "iptables-3x1-steady-keeps", "--rows", "iptables-3x1-steady-gone", "--baseline", "old"]
    out = ["--out", str(tmp_path / "bench"), "--json", "-", "--fail-on", "10000", "--give-up", "30s", "--starts", "1"]
    done = CliRunner().invoke(main, ["bench", *options, *out])
    assert done.exit_code == 7, done.output
    found = json.loads(done.stdout)
    check("bench.json", found)
    assert [row["state"] for row in found["rows"]] == ["wrong", "crashed"]
    assert {row["baseline"]["state"] for row in found["rows"]} == {"measured"}
    assert "foreign: no licence was found" in found["rows"][1]["reason"]
    assert [each["figure"] for each in found["gate"]["findings"] if each["red"]] == ["wrong", "crashed"]


@pytest.mark.parametrize("churn", CHURNS)
def test_every_kind_of_churn_makes_its_changes(churn):
    collector = Collector()
    for _ in collector.watch(generate(SynthOptions(60, 4, 0, nodes=10))[1]):
        pass
    cluster = collector.cluster()
    found = [[(kind, resource) for kind, resource, _ in batch] for batch in batches(churn, cluster)]
    assert bool(found) == (churn not in SYNC_ONLY)
    if churn == "mass-delete":
        assert {len(batch) // 2 for batch in found} <= {len(cluster.slices) // 10, len(cluster.slices) // 10 + 1}
        assert set(found[0]) == {("DELETED", "services"), ("DELETED", "endpointslices")}
    elif found:
        assert {len(batch) for batch in found} == {1 if churn != "flap-storm" else -(-len(cluster.slices) // 20)}


@pytest.fixture(scope="module")
def shown(finished) -> Path:
    """The page of the run above with a history of thirty nights, with a step."""
    result = msgspec.json.decode((finished / "out.json").read_bytes(), type=BenchResult)
    line, lines = line_of(result), []
    for night in range(30):
        figures = {}
        for name, held in line.figures.items():
            slower = 1.25 if night >= 22 and name.startswith(STEADY) else 1.0
            figures[name] = replace(held, relative=(held.relative or 1.0) * slower * (1 + night % 4 / 50))
        lines.append(replace(line, figures=figures, commit=f"c{night}"))
    result = replace(result, steps=steps_of(lines))
    path = finished / "page.html"
    path.write_text(page(result, lines, "harness bench --html page.html"))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page(chromium, shown, width, scheme):
    chromium.show(shown, width, 900, scheme)
    assert chromium.run(OVERFLOW) == [0, []]
    assert (width, scheme) not in [(400, "light"), (1400, "dark")] or violations(chromium) == [], "slow: each once"
    assert [each for each in chromium.run(CONTRAST) if each[0] < 4.5] == []
    assert chromium.console() == [] and set(chromium.requests_from(shown.as_uri())) <= {shown.as_uri(), "data:,"}
    visible = "return [...document.querySelectorAll(arguments[0])].filter(e => e.getClientRects().length).length"
    assert chromium.run(visible, "figure svg") >= 4 and chromium.run(visible, "svg .step.worse") == 2
    assert "+25% since" in chromium.run("return document.body.innerText").replace("+26%", "+25%")
