"""Charts of any data: every position is within the chart, and the SVG is well-formed."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.report import sequence, timeline
from chaos.report.series import Bucket, FaultWindow, FollowedChange, ReadinessLoss, ReportTimeline
from chaos.verdict.findings import Finding
from harness.html.page import NARROW, WIDE
from harness.html.scales import Scale, decades, time_ticks, upper

times = st.floats(-1e5, 1e6, allow_nan=False)
lags = st.none() | st.floats(0, 1e5)
names = st.text(max_size=30)
counts = st.integers(0, 10**7)
CAUSES = ("timeout", "<refused>")

buckets = st.builds(
    Bucket,
    times,
    st.floats(0.5, 1e4),
    counts,
    st.sampled_from([(), (("timeout", 3),), (("timeout", 1), ("<refused>", 10**6))]),
    lags,
    lags,
)
lines = st.builds(
    ReportTimeline,
    began=st.floats(0, 1e4),
    ended=st.floats(0, 1e5),
    buckets=st.lists(buckets, min_size=1, max_size=6).map(tuple),
    causes=st.just(CAUSES),
    nodes=st.lists(names, max_size=4).map(tuple),
    changes=st.lists(
        st.builds(
            FollowedChange, names, times, st.booleans(), st.floats(0, 1e5), st.booleans(), counts, st.tuples(names)
        ),
        max_size=6,
    ).map(tuple),
    unready=st.lists(st.builds(ReadinessLoss, times, st.tuples(names)), max_size=4).map(tuple),
    windows=st.lists(
        st.builds(FaultWindow, st.integers(1, 99), names, times, times, times, counts, st.booleans(), st.tuples(names)),
        max_size=6,
    ).map(tuple),
)
found = st.builds(
    Finding,
    st.integers(1, 99),
    names,
    st.tuples(names),
    st.just(()),
    times,
    times,
    st.booleans(),
    st.booleans(),
    st.just([]),
    readiness_lost_seconds=lags,
    slices_changed_seconds=lags,
    nodes_followed=st.dictionaries(names, lags, max_size=4),
    slowest_node_seconds=lags,
    last_failure_seconds=lags,
    lost=counts,
)


def assert_within(picture: str) -> None:
    """Everything drawn lies within the viewBox, one pixel of a stroke or a mark's tip aside."""
    root = ElementTree.fromstring(picture)
    _, _, width, height = map(float, root.get("viewBox").split())
    assert (root.get("width"), root.get("height")) == tuple(root.get("viewBox").split()[2:])
    for node in root.iter():
        at = {key: float(value) for key, value in node.attrib.items() if re.fullmatch(r"-?[\d.]+", value)}
        spread = at.get("r", 0)
        places = [(at[key], width) for key in ("x", "x1", "x2", "cx") if key in at]
        places += [(at[key], height) for key in ("y", "y1", "y2", "cy") if key in at]
        if node.tag.endswith("rect"):
            assert at["width"] >= 0 and at["height"] >= 0, node.attrib
            places += [(at["x"] + at["width"], width), (at["y"] + at["height"], height)]
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", node.get("d", ""))]
        places += [(n, width) for n in numbers[::2]] + [(n, height) for n in numbers[1::2]]
        for place, most in places:
            assert math.isfinite(place) and -spread <= place <= most + spread, (node.tag, node.attrib)


@pytest.mark.parametrize("width", [WIDE, NARROW])
@given(line=lines)
def test_the_timeline_stays_within_its_picture(width, line):
    assert_within(str(timeline.draw(line, width, "key")))


@pytest.mark.parametrize("width", [WIDE, NARROW])
@given(findings=st.lists(found, max_size=5), lasted=st.floats(0, 1e5))
def test_the_sequences_stay_within_their_picture(width, findings, lasted):
    assert_within(str(sequence.draw(findings, {f.number: lasted for f in findings}, width, "key")))


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(), st.booleans())
def test_a_scale_never_leaves_its_range_and_keeps_order(one, other, value, log):
    scale = Scale(min(one, other), max(one, other), 100.0, 20.0, log)
    assert 20.0 <= scale(value) <= 100.0
    assert scale(min(one, other)) >= scale(max(one, other))


@given(st.floats(1e-3, 1e12))
def test_round_numbers_cover_what_they_are_for(value):
    assert value * (1 - 1e-6) <= upper(value) <= max(1.0, 2.5 * value * (1 + 1e-6))
    levels = decades(value, value * 7)
    assert levels[0] <= value * (1 + 1e-6) and levels[-1] >= value * 7 * (1 - 1e-6) and len(levels) >= 2


@given(st.floats(0, 1e5), st.floats(0.5, 1e6), st.integers(3, 12))
def test_ticks_are_few_and_inside(least, length, count):
    ticks = time_ticks(least, least + length, count)
    assert len(ticks) <= count + 1
    assert all(least - 1e-3 <= tick <= least + length + 1e-3 for tick in ticks)
