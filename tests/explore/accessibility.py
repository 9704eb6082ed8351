"""`make accessibility`: what axe-core finds on the page of `harness explore`, in Chromium, at every width and scheme.

axe-core comes with `make page`'s other packages of npm.  Exit code 1 if it finds anything.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.chaos_report.chromium import Chromium
from tests.explore.conftest import DEMO, serving
from tests.waiting import until

AXE = Path(__file__).resolve().parents[2] / "scripts" / "page" / "node_modules" / "axe-core" / "axe.min.js"
SERVICE = "contingency-team%2Fusers-gateway"
TRACE = "from=external:203.0.113.7&to=svc:contingency-team/users-gateway:http"
SETTLED = "return document.getElementById('page').ariaBusy === 'false' && !!document.querySelector('svg.lane')"
RUN = """const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(found => done(found.violations.map(
  each => `${each.id}: ${each.help}: ${each.nodes.map(node => node.html.slice(0, 160)).join(" ")}`)))"""


def violations(browser: Chromium, url: str) -> list[str]:
    """All of them, each with the view in which it was found."""
    found = []
    for scheme in ("light", "dark"):
        for width in (400, 1400, 2500):
            for tab in ("endpoints", "rules", "trace"):
                browser.show("about:blank", width, 900, scheme)
                browser.show(f"{url}#at=227&measured=300&service={SERVICE}&{TRACE}&tab={tab}", width, 900, scheme)
                until(lambda: browser.run(SETTLED), "the page shows everything")
                browser.run(AXE.read_text())
                found += [f"{tab}, {scheme}, {width} pixels: {each}" for each in browser.later(RUN)]
    return found


def main() -> int:
    """The exit code."""
    if not AXE.exists():
        print(f"{AXE}: missing; `make page` installs it", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as profile, serving(DEMO) as url:
        browser = Chromium(Path(profile))
        try:
            found = violations(browser, url)
        finally:
            browser.close()
    print("\n".join(found) or "axe-core finds nothing")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
