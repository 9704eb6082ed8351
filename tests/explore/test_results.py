"""Results of other commands, opened: each is the page that its own command writes, and the browser shows it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.cli.output import this_command
from harness.cli.result_pages import KINDS, page_of
from tests.axe import violations
from tests.chaos_report.chromium import CONTRAST, OVERFLOW
from tests.docs.test_schemas import SCHEMAS

from .conftest import serving
from .test_page import eventually

pytestmark = pytest.mark.xdist_group("chromium")

DUMP = "tests/docs/dump.json"
MADE_BY = {
    "replay": ["replay", DUMP, "--kernel", "memory", "--no-verify"],
    "modes": ["compare", DUMP, "--modes", "nftables", "--kernel", "memory", "--no-verify"],
    "versions": ["compare", DUMP, "--kube-versions", "1.35,1.37", "--modes", "nftables"],
    "fleet": ["fleet", DUMP, "--workers", "0", "--sample", "0"],
    "tune": ["tune", "recordings/demo.jsonl", "--until", "20s", "--periods", "0,1s,5s"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """made(name) -> the result as JSON and as the page that its command wrote; each is made once."""
    folder = tmp_path_factory.mktemp("results")

    def make(name: str, *words: str):
        files = folder / f"{name}.json", folder / f"{name}.html"
        if not files[0].exists():
            command = [*(words or MADE_BY[name]), "--json", str(files[0]), "--html", str(files[1])]
            done = CliRunner().invoke(main, command)
            assert done.exit_code == 0, done.output
        return files

    return make


@pytest.mark.parametrize("name", MADE_BY)
def test_a_result_is_the_page_of_its_command(made, name):
    result, page = made(name)
    assert page_of(str(result), this_command()) == page.read_text()


def test_a_comparison_of_two_results_has_a_page(made):
    replayed = str(made("replay")[0])
    result, page = made("changes", "compare", replayed, replayed)
    assert page_of(str(result), this_command()) == page.read_text()


def test_every_kind_is_named_by_fields_that_its_schema_requires():
    for kind in KINDS:
        matching = [name for name, each in SCHEMAS.items() if kind.fields <= set(each.get("required", ()))]
        assert len(matching) == 1, kind.command


def test_a_fleets_heat_map_is_served(chromium, made):
    with serving(str(made("fleet")[0])) as url:
        chromium.show(url, 1400, 900, "light")
        eventually(chromium, "return document.querySelectorAll('svg').length > 1", True)
        assert chromium.console() == []
        assert chromium.run("return document.querySelector('h1').textContent").strip() == "2 nodes of dump.json"


@pytest.mark.parametrize("name", ["fleet", "tune"])
def test_a_results_page_fits_and_is_accessible(chromium, made, name):
    _, page = made(name)
    for width, scheme in ((400, "dark"), (1400, "light"), (2500, "dark")):
        chromium.show(page, width, 900, scheme)
        assert chromium.run(OVERFLOW) == [0, []], width
        assert [text for text in chromium.run(CONTRAST) if text[0] < 4.5] == []
        assert violations(chromium) == [], width


def test_other_files_are_ignored_and_a_broken_result_is_reported(made, tmp_path):
    assert page_of(DUMP, "") is None and page_of("recordings/demo.jsonl", "") is None and page_of("-", "") is None
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(json.loads(made("fleet")[0].read_text()) | {"recording": None}))
    done = CliRunner().invoke(main, ["explore", str(path)])
    assert done.exit_code == 2 and "not a complete result of `harness fleet --json`" in done.output
