"""A replay's output on terminals: the order, and the layout on narrow ones."""

from __future__ import annotations

import io

import pytest
from msgspec import convert, to_builtins
from rich.console import Console
from rich.table import Table

from harness.replay.compare.result import Comparison
from harness.replay.latencies import Latencies
from harness.replay.report.comparison import print_comparison
from harness.replay.report.fitting import print_table
from harness.replay.report.page import replay_page
from harness.replay.report.terminal import print_result
from harness.replay.result import ReplayResult, TimelineInterval
from harness.replay.timeline import MOST_STRETCHES, Intervals
from tests.report.results import compared, replayed, slower


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return convert(replayed(tmp_path_factory.mktemp("result")), ReplayResult)


def page(result: ReplayResult, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    print_result(result, console)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [118, 80, 40])
def test_every_width_has_whole_words_and_whole_figures(result, width):
    lines = page(result, width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for word in page(result, 1000):
        whole = [each for each in word.split() if len(each) <= width and not each[0].isdigit()]
        assert [each for each in whole if each not in words] == [] or "p99.9" in word
    figure = f"{result.change.convergence_seconds['p99'] * 1e3:,.2f}"
    assert figure in words


def test_parts_of_a_figure_come_before_their_sum(result):
    text = "\n".join(page(result, 118))
    assert text.index("compute + apply") < text.index("queue wait") < text.index("all changes")
    assert "minSyncPeriod 1 s accounts for" in text and "▁" in text
    assert f"{result.change.queued} of" in text and f"{result.change.count} changes" in text


def test_terminal_and_page_state_the_origin_of_figures_and_what_was_excluded(result):
    for text in ("\n".join(page(result, 1000)), replay_page(result, "harness replay")):
        assert "he end of a change is taken from" in text and "percentiles are nearest-rank" in text
        assert "uring syncs: " in text
        left = {name.replace("_", " "): count for name, count in result.change.not_counted.items() if count}
        assert left and all(f"{count:,} {name}" in text for name, count in left.items())


def test_a_comparison_begins_with_the_origin_of_figures(result):
    console = Console(width=118, file=io.StringIO())
    plain = to_builtins(result)
    print_comparison(convert(compared(plain, slower(plain, "iptables", 40)), Comparison), console)
    text = console.file.getvalue()
    assert text.index("compute + apply p50") < text.index("queue wait") < text.index("change converged")


def test_a_histogram_holds_every_sample_in_its_range():
    seconds = [0.0, 1e-6, 0.5, 0.9999, 1.0, 1.5, 3600.0]
    latencies = Latencies()
    for value in seconds:
        latencies.record(value)
    ranges = latencies.histogram()
    assert sum(each.count for each in ranges) == len(seconds)
    assert [each.up_to_seconds for each in ranges[:-1]] == [each.above_seconds for each in ranges[1:]]
    found = {(each.above_seconds, each.up_to_seconds): each.count for each in ranges if each.count}
    assert found == {(0.0, 1e-6): 2, (0.3, 0.5): 1, (0.7, 1.0): 2, (1.0, 1.5): 1, (3000.0, 5000.0): 1}
    assert Latencies().histogram() == []


def test_a_timeline_is_bounded_and_keeps_every_sync():
    intervals = Intervals()
    for second in range(10_000):
        intervals.add(TimelineInterval(float(second), 1, 2, 3, second / 1e6, 0.0, 0.5))
    made = intervals.timeline()
    stretches = made.stretches
    assert len(stretches) <= MOST_STRETCHES and made.step_seconds == 64.0
    assert sum(each.syncs for each in stretches) == 10_000 and sum(each.changes for each in stretches) == 20_000
    assert max(each.work_seconds for each in stretches) == 9_999 / 1e6
    assert [each.at_seconds for each in stretches] == sorted(each.at_seconds for each in stretches)


SENTENCE = "addresses that accept node ports"


@pytest.mark.parametrize("width", [120, 60, 30])
def test_a_table_that_does_not_fit_with_whole_words_is_a_list(width):
    table = Table(box=None, title="differences")
    for column in ("rule", "subject", "nftables", "iptables", "example"):
        table.add_column(column, overflow="fold")
    table.add_row("CMP-01", SENTENCE, "192.168.1.1", "every local address", "203.0.113.7 tcp/9090")
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    print_table(table, console)
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    assert set(f"CMP-01 {SENTENCE} 192.168.1.1 203.0.113.7 tcp/9090".split()) <= set(shown.split())
    assert ("subject:" in shown) == (width == 30)
