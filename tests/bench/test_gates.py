"""Which gates fail, for each kind of baseline."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from harness.bench.facts import BenchFacts
from harness.bench.gates import by_history, by_pairs, by_saved, verdict
from harness.bench.history import HistoryError, HistoryLine, append, line_of, read
from harness.bench.result import BenchMachine, BenchResult, GateFinding
from harness.bench.rows import PROFILES, BenchRow, parsed, rows_of
from harness.bench.samples import Record, Sample, Samples
from harness.bench.summary import result
from harness.bench.verdict import steps_of

FACTS = BenchFacts(BenchMachine("x", 2, 1, 0.1), "6", {}, None)
ROW = BenchRow("nftables", 1_000, 10, "steady")


def samples(factor: float = 1.0, clock: float = 1.0, count: int = 40) -> Samples:
    """Changes that scatter by a few percent, times `factor`; the clock's time also by `clock`."""
    values = [0.001 * (1 + n % 5 / 50) for n in range(count)]
    change = [Sample((0, n), value * factor * clock, value * factor) for n, value in enumerate(values)]
    return Samples(change=change, memory=[100], rules=10, elements=1_000)


def run(candidate: Samples, baseline: Samples | None = None, machine: float = 1.0) -> BenchResult:
    references = {name: {"seconds": machine, "cpu_seconds": machine} for name in ("json", "loop")}
    record = Record(ROW, candidate, baseline, references, 1.0)
    return result([record], "quick", "main" if baseline else "", FACTS, "2026-01-01T00:00:00Z")


def red(found: list[GateFinding]) -> list[str]:
    return [each.figure for each in found if each.red]


def test_pairs():
    found, judged = by_pairs(run(samples(1.2), samples()), 10)
    assert red(found) == ["change.seconds", "change.cpu_seconds"] and judged == 5
    assert by_pairs(run(samples(1.09), samples()), 10) == ([], 5)


def test_too_few_pairs_are_no_evidence():
    found, _ = by_pairs(run(samples(1.5, count=7), samples(count=7)), 10)
    assert [each.figure for each in found] == ["change.seconds", "change.cpu_seconds"] and red(found) == []
    assert verdict(10, [], 0).passed == "unknown"


def test_a_longer_tail_alone_fails_the_gate():
    """Wall-clock times; CPU times are five distinct values without a tail."""
    longer = samples(count=640)
    longer.change = [s._replace(seconds=s.seconds * (1 if s.at[1] % 40 else 9 + s.at[1])) for s in longer.change]
    found, judged = by_pairs(run(longer, samples(count=640)), 10)
    assert red(found) == ["change_p99.seconds"] and judged == 6
    assert by_pairs(run(samples(count=640), longer), 10)[0] == []


def test_counts_and_memory_are_judged_without_pairs():
    larger = samples()
    larger.elements, larger.memory = 1_200, [130]
    assert red(by_pairs(run(larger, samples()), 10)[0]) == ["peak_memory_bytes", "elements"]


def test_memory_measured_from_outside_needs_as_many_pairs_as_times():
    heavy, about = samples(), ({"json": {"seconds": 1.0, "cpu_seconds": 1.0}}, 1.0)
    heavy.memory = [200, 130]
    light = samples()
    light.memory = [100, 100]
    record = Record(BenchRow("nftables", 30, 2, "steady", "proxy-engine"), heavy, light, *about)
    found, _ = by_pairs(result([record], "quick", "main", FACTS, ""), 10)
    assert [(each.figure, each.red) for each in found] == [("peak_memory_bytes", False)]


def test_a_row_that_only_the_baseline_can_do():
    found, _ = by_pairs(run(Samples(state="crashed"), samples()), 10)
    assert red(found) == ["crashed"]


def test_a_saved_result_of_a_slower_machine_is_scaled():
    assert red(by_saved(run(samples(2), machine=2), run(samples()), 10)[0]) == []
    assert red(by_saved(run(samples(2.4), machine=2), run(samples()), 10)[0]) == ["change.cpu_seconds"]
    assert red(by_saved(run(samples(clock=3)), run(samples()), 10)[0]) == [], "others may have used the machine"


def lines(*factors: float) -> list[HistoryLine]:
    noise = (0.99, 1.01, 1.0, 1.02, 0.98)
    return [line_of(run(samples(factor * noise[n % 5]))) for n, factor in enumerate(factors)]


def test_a_history():
    assert by_history(lines(*[1.0] * 12), 10)[0] == []
    jump, _ = by_history(lines(*[1.0] * 12, 1.3), 10)
    assert [(each.how, each.since, each.red) for each in jump] == [("jump", 12, False)], "one run is no evidence"
    step, _ = by_history(lines(*[1.0] * 12, *[1.2] * 4), 10)
    assert [(each.how, each.since, each.figure) for each in step] == [("step", 12, "change.cpu_seconds")] and red(step)
    assert by_history(lines(*[1.0] * 12, *[1.2] * 9), 10)[0] == [], "by then it is the new state of things"
    assert by_history(lines(*[1.0] * 12, *[0.8] * 4), 10)[0] == [], "faster"
    assert by_history(lines(1.0, 2.0), 10) == ([], 0), "too short to judge"


def test_steps_name_their_run():
    held = lines(*[1.0] * 12, *[1.2] * 6)
    held[12] = replace(held[12], commit="abc")
    (step,) = steps_of(held)
    assert (step.index, step.commit, step.row) == (12, "abc", ROW.id)


def test_the_file_is_appended_to_and_bad_lines_are_named(tmp_path):
    path = tmp_path / "history.jsonl"
    held = lines(1.0, 1.1)
    for line in held:
        append(path, line)
    assert read(path) == held
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(HistoryError, match="line 3"):
        read(path)


def test_row_ids_describe_their_rows():
    for profile in PROFILES:
        rows = rows_of(profile, ["kp"])
        assert [parsed(row.id) for row in rows] == rows and len(set(rows)) == len(rows)
    assert {row.named for row in rows_of("nightly")} == {None, "kubernetes#139513", "kubernetes#135639"}
    with pytest.raises(ValueError, match="such as nftables-1000x10-steady-engine"):
        parsed("nftables-many")
