"""A click through 10,000 Services in a real browser: what is shown is what inspect, plan and trace print."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.log import open_source, write_recording
from harness.log.events import Event
from tests.explore.test_page import ADDRESSES, AT, STEPS, eventually, get, jump, opened, press

from .conftest import serving

pytestmark = pytest.mark.xdist_group("chromium")

RECORDING = "recordings/10k-svc.jsonl"
PLACE = 24_000
RESOURCE = {"Service": "services", "EndpointSlice": "endpointslices", "Node": "nodes"}
NAMES = "return [...document.querySelectorAll('[aria-label=Services] td button')].map(e => e.textContent)"
ROW = "return [...document.querySelector('[aria-label=Services] tr.chosen').cells].map(e => e.textContent)"
RULES = "return document.querySelector('#details details pre')?.textContent"
FILTER = """const box = document.querySelector('[aria-label="Filter Services by name"]');
box.value = arguments[0]; box.dispatchEvent(new Event('input', {bubbles: true}))"""


def printed(*words: str) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_clicked_views_show_what_the_commands_print(chromium, tmp_path):
    with serving(RECORDING) as url:
        at = next(n for n in range(PLACE, PLACE + 100) if changes_a_slice(get(url, f"api/moment?at={n}")["event"]))
        opened(chromium, url)
        jump(chromium, str(at - 1))
        eventually(chromium, AT, str(at - 1))
        press(chromium, "ArrowRight")
        eventually(chromium, AT, str(at))
        event = get(url, f"api/moment?at={at}")["event"]
        namespace, name = event["service"].split("/")
        chromium.run(FILTER, event["service"])
        eventually(chromium, f"{NAMES}.includes('{name}')", True)
        eventually(chromium, f"{NAMES}.length < 20", True)
        button = (
            f"[...document.querySelectorAll('[aria-label=Services] td button')].find(e => e.textContent == '{name}')"
        )
        chromium.run(f"{button}.click()")

        alone = of_service(json.loads(printed("inspect", RECORDING, "--at", str(event["seq"]))), namespace, name)
        ends = [end for each in alone["items"] if each["kind"] == "EndpointSlice" for end in each["endpoints"]]
        eventually(chromium, ADDRESSES, [", ".join(end["addresses"]) for end in ends])
        row = chromium.run(ROW)
        ready = sum(end["conditions"].get("ready") is not False for end in ends)
        assert row[:4] == [namespace, name, str(ready), str(len(ends))]

        plan = printed("plan", recorded(tmp_path / "alone.jsonl", alone))
        chromium.run("document.getElementById('tab-rules').click()")
        eventually(chromium, f"{RULES.replace('textContent', 'textContent.length > 0')}", True)
        assert bare(chromium.run(RULES)) == bare(plan)

        asked = ["--from", "external:203.0.113.7", "--to", f"svc:{namespace}/{name}"]
        traced = json.loads(printed("trace", RECORDING, "--at", str(event["seq"]), *asked, "--json", "-"))
        chromium.run("document.getElementById('tab-trace').click()")
        eventually(chromium, "return document.querySelector('[name=to]')?.value", asked[3])
        chromium.run("document.querySelector('#details form').requestSubmit()")
        eventually(chromium, STEPS, sorted(traced["steps"]))


def changes_a_slice(event: dict) -> bool:
    return bool(event["service"]) and f"{event['type']} {event['object']}".startswith("MODIFIED endpointslices ")


def of_service(listing: dict, namespace: str, name: str) -> dict:
    """The Service, its slices and the first node."""
    items = listing["items"]
    node = min((each for each in items if each["kind"] == "Node"), key=lambda each: each["metadata"]["name"])
    mine = [each for each in items if each["metadata"].get("namespace") == namespace and belongs(each, name)]
    return listing | {"items": [node, *mine]}


def belongs(manifest: dict, name: str) -> bool:
    labels = manifest["metadata"].get("labels") or {}
    return name in (labels.get("kubernetes.io/service-name"), manifest["metadata"]["name"])


def recorded(path: Path, listing: dict) -> str:
    """The objects as a recording of the same cluster."""
    with open_source(RECORDING) as whole:
        header = whole.header
    raw = [(RESOURCE[each["kind"]], msgspec.Raw(msgspec.json.encode(each))) for each in listing["items"]]
    write_recording(path, header, [Event(n, 0, "ADDED", *each) for n, each in enumerate(raw, 1)])
    return str(path)


def bare(text: str) -> list[str]:
    """Without the comments that name families and commands."""
    return [line for line in text.splitlines() if not line.startswith("#")]
