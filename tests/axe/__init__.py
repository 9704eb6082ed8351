"""axe-core 4.14.1, axe.min.js as it is published (MPL-2.0, Deque Systems), put into pages that Chromium shows.

It is compressed, so that searches in the repository do not find its one line.
"""

from __future__ import annotations

from pathlib import Path

import zstandard

from tests.chaos_report.chromium import Chromium

AXE = zstandard.decompress(Path(__file__).with_name("axe.min.js.zst").read_bytes()).decode()
RUN = """const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(found => done(found.violations.map(
  each => `${each.id}: ${each.help}: ${each.nodes.map(node => node.html.slice(0, 160)).join(" ")}`)))"""


def violations(browser: Chromium) -> list[str]:
    """Violations of all axe-core rules in the currently shown page."""
    browser.run(AXE)
    return browser.later(RUN)
