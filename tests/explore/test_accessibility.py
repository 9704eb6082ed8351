"""axe-core finds nothing on the page. Schemes differ only in colours, widths only in layout."""

from __future__ import annotations

import json

import pytest

from tests.axe import violations
from tests.chaos_report.runs import ordinary

from .conftest import serving
from .test_page import TRACE, eventually, opened

MOMENT = "#at=227&measured=300&service=contingency-team%2Fusers-gateway"
LANES = "return document.querySelectorAll('svg.drawn').length"
SETTLED = "return document.getElementById('page').ariaBusy"

LOOKS = [(400, "light"), (2500, "light"), (1400, "dark")]

pytestmark = pytest.mark.xdist_group("chromium")


@pytest.mark.parametrize("tab", ["endpoints", "rules", "trace"])
def test_axe_finds_nothing_on_a_recordings_page(chromium, page, tab):
    for width, scheme in LOOKS:
        opened(chromium, page, f"{MOMENT}&tab={tab}&{TRACE}", width, scheme)
        eventually(chromium, LANES, 2)
        eventually(chromium, SETTLED, "false")
        assert violations(chromium) == [], width


def test_axe_finds_nothing_on_a_runs_page(chromium, tmp_path):
    folder = ordinary(tmp_path / "run")
    finding = {"fault": "pod-kill", "began": 4.0, "ended": 8.0, "pods": ["web-1"], "nodes": [], "lost": 20}
    (folder / "verdict.json").write_text(json.dumps({"value": False, "findings": [finding]}))
    with serving(str(folder)) as url:
        for width, scheme in LOOKS:
            chromium.show("about:blank", width, 900, scheme)
            chromium.show(url, width, 900, scheme)
            eventually(chromium, LANES, 3)
            eventually(chromium, SETTLED, "false")
            assert violations(chromium) == [], width


def test_axe_finds_a_missing_name(chromium, page):
    opened(chromium, page)
    chromium.run("document.querySelector('input[type=range]').removeAttribute('aria-label')")
    assert [each.partition(":")[0] for each in violations(chromium)] == ["label"]
