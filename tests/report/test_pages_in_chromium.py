"""The pages of replay and compare in a real browser: 400 to 1400 pixels, light and dark."""

from __future__ import annotations

import pytest
from msgspec import convert

from harness.replay.compare.result import Comparison, Upgrade, UpgradeRow
from harness.replay.report.page import comparison_page, replay_page, upgrade_page
from harness.replay.result import ReplayResult
from tests.axe import violations
from tests.chaos_report.chromium import CONTRAST, OVERFLOW
from tests.report.results import compared, failed, replayed, slower

pytestmark = pytest.mark.xdist_group("chromium")

LOOKS = [(400, "light"), (768, "dark"), (1400, "light")]
"""For axe-core, which is slow: schemes differ only in colours, of which CONTRAST sees all, widths only in layout."""
HOSTILE = "<script>alert('x')</script><b>bold</b>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    result = replayed(folder)
    nothing = replayed(folder, "--until", "0s")
    three = compared(result, slower(result, "iptables", 40), slower(result, "userspace", 3), missing=HOSTILE)
    row = UpgradeRow("iptables", "1.37", HOSTILE, "10.0.0.1 tcp/80", "a", "b")
    upgrade = Upgrade("x" * 200, ["iptables"], ["1.30", "1.37"], [row])
    documents = {
        "replay": replay_page(convert(result, ReplayResult), "harness replay recordings/demo.jsonl"),
        "failed": replay_page(convert(failed(result, HOSTILE), ReplayResult), "harness replay x"),
        "nothing": replay_page(convert(nothing, ReplayResult), "harness replay x --until 0s"),
        "compare": comparison_page(convert(three, Comparison), "harness compare x"),
        "no figures": comparison_page(convert(compared(missing=HOSTILE), Comparison), "harness compare x"),
        "upgrade": upgrade_page(upgrade, "harness compare x --kube-versions 1.30,1.37"),
    }
    for name, text in documents.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in documents}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["replay", "failed", "nothing", "compare", "no figures", "upgrade"])
def test_a_page_fits_is_self_contained_and_readable(chromium, pages, name, scheme):
    for width in (400, 768, 1400):
        chromium.show(pages[name], width, 900, scheme)
        assert chromium.run(OVERFLOW) == [0, []], width
        assert chromium.console() == []
        assert (width, scheme) not in LOOKS or violations(chromium) == []
        texts = chromium.run(CONTRAST)
        assert len(texts) > 5
        assert [text for text in texts if text[0] < 4.5] == []
        assert chromium.requests_from(pages[name].as_uri()) == [pages[name].as_uri()], "nothing else is asked for"


def test_texts_of_a_run_never_become_elements(chromium, pages):
    for name in pages:
        chromium.show(pages[name], 1400, 900, "light")
        assert chromium.run("return document.querySelectorAll('script, b').length") == 0


def test_the_verdict_comes_first_and_differences_are_bounded(chromium, pages):
    verdicts = {"replay": "passed", "failed": "failed", "compare": "unknown", "no figures": "unknown"}
    for name, word in verdicts.items():
        chromium.show(pages[name], 1400, 900, "light")
        assert chromium.run("return document.querySelector('#verdict h2').textContent") == f"Verdict: {word}"
    chromium.show(pages["failed"], 1400, 900, "light")
    problems = chromium.run("return [...document.querySelectorAll('#verdict li')].map(e => e.textContent)")
    assert len(problems) == 42 and problems[-1].endswith("and 20 more differences")


def test_modes_stand_side_by_side_where_there_is_room(chromium, pages):
    place = "return [...document.querySelectorAll('figure')].slice(0, 3).map(f => f.getBoundingClientRect().top)"
    chromium.show(pages["compare"], 1400, 900, "light")
    assert len(set(chromium.run(place))) == 1
    chromium.show(pages["compare"], 400, 900, "light")
    assert len(set(chromium.run(place))) == 3


def test_titles_of_pictures_are_not_truncated(chromium, pages):
    titles = """
    return [...document.querySelectorAll('svg .panel')].filter(t => t.getClientRects().length).map(t =>
      t.getBoundingClientRect().right - t.ownerSVGElement.getBoundingClientRect().right)"""
    for width in (400, 1400):
        chromium.show(pages["compare"], width, 900, "light")
        rights = chromium.run(titles)
        assert len(rights) == 18 and max(rights) <= 0
