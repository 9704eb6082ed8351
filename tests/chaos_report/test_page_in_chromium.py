"""The page in a real browser: phone and desktop, light and dark."""

from __future__ import annotations

import pytest

from chaos.judge import judge_folder
from tests.axe import violations
from tests.chaos_report import runs
from tests.chaos_report.chromium import CONTRAST, OVERFLOW

pytestmark = pytest.mark.xdist_group("chromium")

SIZES = {"phone": (360, 740), "desktop": (1440, 900)}
SCHEMES = ("light", "dark")
LOOKS = [("phone", "light"), ("desktop", "dark")]
"""For axe-core, which is slow: schemes differ only in colours, of which CONTRAST sees all, sizes only in layout."""

LAYOUT = """
return [...document.querySelectorAll('svg')].map(s => [s.getAttribute('width'), s.getAttribute('height'),
  s.closest('.wide, .narrow') ? s.querySelector('title') !== null && s.querySelector('desc') !== null : true]);
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of an ordinary run, of a failed one with hostile texts, and of one that left no files."""
    folder = tmp_path_factory.mktemp("runs")
    runs.ordinary(folder / "ordinary")
    runs.broken(folder / "broken")
    (folder / "nothing").mkdir()
    for run in folder.iterdir():
        judge_folder(run)
    return {run.name: run / "report.html" for run in folder.iterdir()}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["ordinary", "broken", "nothing"])
def test_a_page_fits_is_self_contained_and_readable(chromium, pages, name, size, scheme):
    chromium.show(pages[name], *SIZES[size], scheme)
    chromium.run("for (const d of document.querySelectorAll('details')) d.open = true")
    overflow, elements = chromium.run(OVERFLOW)
    assert (overflow, elements) == (0, [])
    assert chromium.console() == []
    assert chromium.requests_from(pages[name].as_uri()) == [pages[name].as_uri()], "nothing else is asked for"
    assert (size, scheme) not in LOOKS or violations(chromium) == []
    texts = chromium.run(CONTRAST)
    assert len(texts) > (40 if name != "nothing" else 5)
    assert [text for text in texts if text[0] < 4.5] == []


@pytest.mark.parametrize("size", SIZES)
def test_pictures_have_a_size_and_a_name_and_the_right_one_is_shown(chromium, pages, size):
    chromium.show(pages["ordinary"], *SIZES[size], "light")
    pictures = chromium.run(LAYOUT)
    assert len(pictures) > 4
    assert all(width and height and named for width, height, named in pictures)
    shown = chromium.run(
        "return [...document.querySelectorAll('.wide svg, .narrow svg')].filter(s => s.getClientRects().length)"
        ".map(s => [s.parentElement.className, s.getBoundingClientRect().width])"
    )
    kind = "narrow" if size == "phone" else "wide"
    assert [name for name, _ in shown] == [kind, kind]
    assert all(0 < width <= SIZES[size][0] for _, width in shown)


def test_texts_of_a_run_never_become_elements(chromium, pages):
    chromium.show(pages["broken"], *SIZES["desktop"], "light")
    assert chromium.run("return document.querySelectorAll('script').length") == 1, "our own"
    assert chromium.run("return document.querySelectorAll('h1 script, b').length") == 0
    assert "<script>alert('x')</script>" in chromium.run("return document.querySelector('h1').textContent")


def test_the_dark_scheme_is_dark(chromium, pages):
    grounds = []
    for scheme in SCHEMES:
        chromium.show(pages["ordinary"], *SIZES["desktop"], scheme)
        words = chromium.run("return getComputedStyle(document.body).backgroundColor")
        grounds.append(sum(map(int, words.removeprefix("rgb(").removesuffix(")").split(","))))
    light, dark = grounds
    assert light > 600 and dark < 150


def test_a_printed_page_is_light_and_complete(chromium, pages):
    chromium.show(pages["ordinary"], 760, 1000, "dark", medium="print")
    assert chromium.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    wide = (
        "return [...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().right).filter(r => r > 760)"
    )
    assert chromium.run(wide) == [], "nothing to scroll on paper"


def test_hovering_over_a_fault_marks_it_everywhere(chromium, pages):
    chromium.show(pages["ordinary"], *SIZES["desktop"], "light")
    pointed = "return [...document.querySelectorAll('.pointed')].map(e => e.dataset.fault)"
    chromium.run("document.querySelector('#fault-2').dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))")
    assert set(chromium.run(pointed)) == {"2"} and len(chromium.run(pointed)) > 3
    chromium.run("document.querySelector('#fault-2').dispatchEvent(new MouseEvent('mouseout', {bubbles: true}))")
    assert chromium.run(pointed) == []


def test_a_fault_s_number_leads_to_its_row(chromium, pages):
    chromium.show(pages["ordinary"], *SIZES["desktop"], "light", prefers_reduced_motion="reduce")
    assert chromium.run("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    link = "document.querySelector('.wide a.badge[data-fault=\"2\"]')"
    chromium.run(f"{link}.dispatchEvent(new MouseEvent('click', {{bubbles: true, cancelable: true}}))")
    assert chromium.run("return document.querySelector(':target').id") == "fault-2"
