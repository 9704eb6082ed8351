"""`harness explore` with 10,000 Services in real Chromium: until the first Services are shown, and a scrub step."""

from __future__ import annotations

import statistics

import psutil
import pytest

from tests.conftest import chromium
from tests.explore.conftest import serving

__all__ = ["chromium"]

RECORDING = "recordings/10k-svc.jsonl"
STEPS = 50
ROWS = "document.querySelector('[aria-label=Services] td button')"
PAINT = f"""
const done = arguments[arguments.length - 1];
const painted = () => {ROWS} ? requestAnimationFrame(() => done(performance.now())) : requestAnimationFrame(painted);
painted();
"""
"""Milliseconds from the start of navigation to the frame after the one that shows Services."""
SCRUB = """
const done = arguments[arguments.length - 1];
const page = document.getElementById("page"), slider = document.querySelector("input[type=range]");
const times = [], steps = arguments[0];
const settled = (then) => requestAnimationFrame(() => page.ariaBusy === "true" ? settled(then) : then());
const step = () => {
  if (times.length === steps) return done(times);
  const began = performance.now(), before = slider.value;
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
  const moved = () => slider.value === before ? requestAnimationFrame(moved)
    : settled(() => { times.push(performance.now() - began); step(); });
  moved();
};
settled(step);
"""
"""Milliseconds of each step to the next event, from the key to the frame in which every panel shows that moment."""


@pytest.fixture(scope="module")
def page():
    with serving(RECORDING) as url:
        yield url


def test_first_paint(benchmark, page, chromium, figure):
    """Reference: the same page before any data, its first contentful paint."""
    times = []

    def opened() -> None:
        chromium.show("about:blank", 1400, 900, "light")
        chromium.show(page, 1400, 900, "light")
        times.append(chromium.later(PAINT))

    benchmark.pedantic(opened, rounds=5)
    bare = chromium.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    figure(
        "explore, 10,000 Services: Services shown", f"{min(times):.0f} ms", "<= 1,000 ms", f"page alone {bare:.0f} ms"
    )


@pytest.mark.parametrize("tab", ["endpoints", "rules"])
def test_a_scrub_step(benchmark, page, chromium, figure, tab):
    """Wall clock, and the CPU time of server and browser, which another process does not lengthen much."""
    chromium.show("about:blank", 1400, 900, "light")
    chromium.show(page, 1400, 900, "light")
    chromium.later(PAINT)
    chromium.run(f"{ROWS}.click()")
    chromium.run("document.getElementById(arguments[0]).click()", f"tab-{tab}")
    before = _cpu_seconds()
    times = benchmark.pedantic(lambda: chromium.later(SCRUB, STEPS), rounds=1)
    cpu = [1_000 * (after - first) / STEPS for first, after in zip(before, _cpu_seconds(), strict=True)]
    used = f"CPU: server {cpu[0]:.0f} ms, browser {cpu[1]:.0f} ms"
    figure(f"explore: scrub step, {tab}", f"median {statistics.median(times):.0f} ms", "<= 100 ms", used)


def _cpu_seconds() -> tuple[float, float]:
    """Figures of the server and of the browser, which are this process's descendants."""
    server = browser = 0.0
    for each in psutil.Process().children(recursive=True):
        used = sum(each.cpu_times()[:2])
        if "chrom" in each.name():
            browser += used
        elif "explore" in each.cmdline():
            server += used
    return server, browser
