"""The page in a real browser: what it shows, by mouse and keyboard, from 400 to 2500 pixels, and from nowhere else."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.explore import views
from harness.log import write_recording
from harness.log.events import Event
from tests.chaos_report.chromium import CONTRAST, OVERFLOW
from tests.waiting import until

from .conftest import DEMO, serving

pytestmark = pytest.mark.xdist_group("chromium")

TRACE = "from=external:203.0.113.7&to=svc:contingency-team/users-gateway:http"
MOMENT = "#at=150&service=contingency-team%2Fusers-gateway"


def get(url: str, path: str):
    with urllib.request.urlopen(url + path, timeout=30) as answer:
        return json.load(answer)


def refused(url: str, **headers: str) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)
    return caught.value.code, caught.value.read().decode()


def eventually(chromium, script: str, expected) -> None:
    """Wait until the page shows the value, with a limit for busy machines."""
    until(lambda: chromium.run(script) == expected, f"{script!r} gives {expected!r}")


def opened(chromium, page: str, fragment: str = "", width: int = 1400, scheme: str = "light") -> None:
    chromium.show("about:blank", width, 900, scheme)
    chromium.show(page + fragment, width, 900, scheme)
    eventually(chromium, "return document.querySelectorAll('[aria-label=Services] td button').length > 0", True)


ADDRESSES = "return [...document.querySelectorAll('[aria-label=Endpoints] tbody tr')].map(e => e.cells[0].textContent)"
AT = "return document.querySelector('input[type=range]').value"


def press(chromium, key: str) -> None:
    chromium.run("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}))", key)


def jump(chromium, text: str) -> None:
    box = "const box = document.querySelector('[name=position]'); box.value = arguments[0]; box.form.requestSubmit()"
    chromium.run(box, text)


def test_keys_buttons_and_links_move_through_time(chromium, page, demo):
    opened(chromium, page)
    eventually(chromium, AT, str(demo.initial))
    press(chromium, "ArrowRight")
    eventually(chromium, AT, str(demo.initial + 1))
    eventually(chromium, "return location.hash", f"#at={demo.initial + 1}")
    chromium.run("document.querySelector('[aria-label=\"Last event\"]').click()")
    eventually(chromium, AT, str(len(demo)))
    jump(chromium, "20s")
    eventually(chromium, AT, str(demo.index_of(("t", 20_000_000_000))))
    jump(chromium, "x")
    eventually(chromium, "return document.querySelector('[role=alert]')?.textContent.includes('not a duration')", True)


def test_the_page_shows_what_the_commands_print(chromium, page, demo):
    opened(chromium, page, MOMENT)
    rows = views.services(demo.objects(150), views.ManifestFacts(demo.events), "", 0, 500)["rows"]
    names = "return [...document.querySelectorAll('[aria-label=Services] td button')].map(e => e.textContent)"
    eventually(chromium, names, [row["name"] for row in rows])
    ends = views.service(demo.objects(150), views.ManifestFacts(demo.events), "contingency-team", "users-gateway")[
        "endpoints"
    ]
    eventually(chromium, ADDRESSES, [end["addresses"] for end in ends])
    opened(chromium, page, f"{MOMENT}&tab=trace&{TRACE}")
    printed = CliRunner().invoke(main, ["trace", DEMO, "--at", "150", *TRACE_OPTIONS, "--json", "-"])
    expected = json.loads(printed.stdout)["steps"]
    eventually(chromium, STEPS, sorted(expected))


STEPS = """return [...document.querySelectorAll('ol.path li:not(.end)')].flatMap(li => {
  const rule = li.querySelector('.rule').textContent, elements = [...li.querySelectorAll('.element')];
  return elements.length ? elements.map(each => `${rule}    ${each.textContent}`) : [rule]; }).sort()"""
"""Alternatives are shown with their rule, so that only the order differs from what is printed."""
TRACE_OPTIONS = ["--from", "external:203.0.113.7", "--to", "svc:contingency-team/users-gateway:http"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tab", ["endpoints", "rules", "trace"])
def test_the_page_fits_and_is_readable(chromium, page, tab, scheme):
    for width in (400, 1400, 2500):
        opened(chromium, page, f"{MOMENT}&tab={tab}&{TRACE}", width, scheme)
        eventually(chromium, "return !!document.querySelector('#details table, #details pre, #details ol')", True)
        assert chromium.run(OVERFLOW) == [0, []], width
        assert [text for text in chromium.run(CONTRAST) if text[0] < 4.5] == []
        assert chromium.console() == []
        hosts = {urlsplit(url).netloc for url in chromium.requests() if url.startswith("http")}
        assert hosts <= {urlsplit(page).netloc}, "nothing is asked for from elsewhere"


SCROLLED = """return [...document.querySelectorAll('#page *')]
  .filter(e => /auto|scroll/.test(getComputedStyle(e).overflow)
  && (e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight)
  && !(e.tabIndex === 0 && e.ariaLabel && e.role)).map(e => e.outerHTML.slice(0, 80))"""


def test_scroll_areas_are_focusable_and_keys_work_after_a_click(chromium, page):
    """`make accessibility` looks at everything that axe-core knows of."""
    opened(chromium, page, MOMENT, 400)
    eventually(chromium, "return document.getElementById('page').ariaBusy", "false")
    assert chromium.run(SCROLLED) == []
    row = "document.querySelector('[aria-label=\"Events around this moment\"] tbody tr:first-child button')"
    chromium.run(f"{row}.focus(); {row}.click()")
    eventually(chromium, AT, "121")
    chromium.run(
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
    )
    eventually(chromium, AT, "122")


def test_every_control_has_a_name(chromium, page):
    opened(chromium, page, MOMENT)
    nameless = "return [...document.querySelectorAll('button, input, select, a')].filter(e => !e.textContent.trim()" \
        " && !e.ariaLabel && !e.closest('label')).map(e => e.outerHTML)"  # fmt: skip
    assert chromium.run(nameless) == []


def test_texts_of_a_recording_never_become_elements(chromium, demo, tmp_path):
    hostile = "<img src=x onerror=alert(1)>"
    manifest = {"metadata": {"name": hostile, "namespace": hostile}, "spec": {"type": hostile, "clusterIP": hostile}}
    path = tmp_path / "hostile.jsonl"
    write_recording(path, demo.header, [Event(1, 0, "ADDED", "services", msgspec.Raw(json.dumps(manifest).encode()))])
    with serving(str(path)) as url:
        opened(chromium, url, "#at=1")
        eventually(chromium, "return document.querySelector('[aria-label=Services] td').textContent", hostile)
        assert chromium.run("return document.querySelectorAll('img').length") == 0


def test_the_server_rejects_invalid_requests_and_foreign_hosts(page, demo):
    assert get(page, "api/index?position=20s") == {"at": demo.index_of(("t", 20_000_000_000))}
    assert get(page, "api/service?service=no/such") is None
    for path, message in {
        "moment?at=-1": "at: '-1' is not a number",
        "rules?service=x": "service: NAMESPACE/NAME is needed",
        "rules?service=a/b&mode=x": "mode: 'x' is not one of nftables, iptables, ipvs",
        "trace?from=me&to=1.2.3.4:80": "--from 'me' is not one of pod:NAME, node, external:IP",
    }.items():
        code, text = refused(f"{page}api/{path}")
        assert (code, json.loads(text)["error"]) == (400, message)
    assert refused(page, Host="evil.example") == (403, "only as 127.0.0.1 or localhost\n")


@pytest.mark.parametrize(
    ("source", "message"),
    [("no-such.jsonl", "no-such.jsonl: No such file or directory"), ("tests/explore", "verdict.json: No such file")],
)
def test_what_cannot_be_read_is_one_line(source, message):
    done = CliRunner().invoke(main, ["explore", source])
    assert done.exit_code == 2 and done.output.startswith("error: ") and message.split(": ")[-1] in done.output
    assert done.output.count("\n") == 1
