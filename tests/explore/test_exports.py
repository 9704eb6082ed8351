"""Downloads of the page: equal to the commands' output, valid for kubectl apply and for patch."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import urllib.request
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner

from harness.apiserver import LiveApi
from harness.apiserver.admission import Admission
from harness.apiserver.kubeconfig import write_kubeconfig
from harness.apiserver.live import LiveStore
from harness.cli import main
from tests.chaos_report.runs import failure, fault, write_run
from tests.serve.conftest import kubectl
from tests.waiting import until

from .conftest import DEMO, serving
from .test_page import MOMENT, TRACE, TRACE_OPTIONS, eventually, get, opened, refused

pytestmark = pytest.mark.xdist_group("chromium")

__all__ = ["kubectl"]

SERVICE = "service=contingency-team/users-gateway"


def saved(url: str, path: str) -> str:
    with urllib.request.urlopen(f"{url}save/{path}", timeout=60) as answer:
        assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
        return answer.read().decode()


def printed(*words: str) -> str:
    return CliRunner().invoke(main, words).stdout


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_state_and_traces_are_what_the_commands_print(page):
    assert json.loads(saved(page, "state.json?at=150")) == json.loads(printed("inspect", DEMO, "--at", "150"))
    asked = ("trace", DEMO, "--at", "150", *TRACE_OPTIONS)
    assert saved(page, f"trace.txt?at=150&{TRACE}") == printed(*asked)
    assert json.loads(saved(page, f"trace.json?at=150&{TRACE}")) == json.loads(printed(*asked, "--json", "-"))
    assert refused(f"{page}save/trace.txt?from=me&to=1.2.3.4:80")[0] == 400


def test_kubectl_applies_the_state(page, demo, kubectl, tmp_path):
    cluster = demo.header.cluster
    store, file = LiveStore(admission=Admission(cluster["serviceCIDRs"])), tmp_path / "state.yaml"
    file.write_text(saved(page, "state.yaml?at=150"))
    with LiveApi(store) as api:
        write_kubeconfig(path := tmp_path / "kubeconfig", api.kubeconfig())
        kubectl(path, "apply", "-f", str(file))
    recorded = [each for each in json.loads(saved(page, "state.json?at=150"))["items"] if each["kind"] != "Node"]
    assert len(recorded) > 80
    for manifest in recorded:
        meta, kind = manifest["metadata"], manifest["kind"]
        held = store.get(f"{kind.lower()}s", meta["name"], meta["namespace"])
        if kind == "EndpointSlice":
            assert (held["endpoints"], held["ports"]) == (manifest["endpoints"] or [], manifest["ports"] or [])
        else:
            expected = {name: value for name, value in manifest["spec"].items() if name != "selector"}
            assert {name: held["spec"].get(name) for name in expected} == expected


def test_one_service_is_saved_alone(page):
    text = saved(page, f"state.yaml?at=150&{SERVICE}")
    assert [each["kind"] for each in yaml.safe_load_all(text)] == ["Namespace", "Service", "EndpointSlice"]


def test_the_saved_difference_is_a_valid_patch(page, demo, tmp_path):
    at = next(n for n in range(demo.initial + 1, len(demo)) if get(page, f"api/moment?at={n}")["event"]["service"])
    service = quote(get(page, f"api/moment?at={at}")["event"]["service"])
    files = {name: tmp_path / name for name in ("before.txt", "after.txt", "rules.diff")}
    for name, path in files.items():
        path.write_text(saved(page, f"{name}?at={at}&service={service}"))
    assert files["before.txt"].read_text() != files["after.txt"].read_text()
    subprocess.run(["patch", "--quiet", files["before.txt"], files["rules.diff"]], check=True)
    assert files["before.txt"].read_text() == files["after.txt"].read_text()


def test_saved_tables_equal_those_of_the_page(page, demo):
    whole = rows(saved(page, "services.csv?at=150"))
    shown = get(page, "api/services?at=150&count=500")["rows"]
    assert whole == [{name: str(value) for name, value in row.items()} for row in shown]
    assert len(rows(saved(page, "services.csv?at=150&filter=users-gateway"))) == 1
    ends = get(page, f"api/service?at=150&{SERVICE}")["endpoints"]
    assert [row["addresses"] for row in rows(saved(page, f"endpoints.csv?at=150&{SERVICE}"))] == [
        end["addresses"] for end in ends
    ]
    events = rows(saved(page, "events.csv"))
    assert [int(row["seq"]) for row in events] == [event.seq for event in demo.events]
    assert events[150 - 1]["name"] and not events[98]["name"], "a bookmark is of no object"


def test_saved_convergence_equals_the_measurement(page):
    measured = get(page, "api/convergence?mode=nftables")["points"]
    found = rows(saved(page, "convergence.csv?mode=nftables"))
    assert [(int(row["seq"]), float(row["seconds"])) for row in found] == [
        (point["seq"], point["seconds"]) for point in measured
    ]
    assert refused(f"{page}save/requests.csv")[0] == 404, "a recording alone has none"


def test_a_runs_requests_are_saved_with_the_faults_of_their_time(tmp_path):
    folder = write_run(tmp_path / "run", [fault(1, "pod-kill", 4.0)], [failure(5.5), failure(5.6)], seconds=9.0)
    finding = {"fault": "pod-kill", "began": 4.0, "ended": 8.0, "pods": ["web-1"], "nodes": [], "lost": 2}
    (folder / "verdict.json").write_text(json.dumps({"value": True, "findings": [finding]}))
    with serving(str(folder)) as url:
        found = rows(saved(url, "requests.csv"))
    assert [(float(row["at_seconds"]), row["answered"], row["lost"], row["faults"]) for row in found] == [
        (at, "100", "2" if at == 5 else "0", "pod-kill" if at >= 4 else "") for at in range(2, 9)
    ]


LINKS = "return [...document.querySelectorAll('a[download]')].map(e => e.href)"


@pytest.mark.parametrize("tab", ["endpoints", "rules", "trace"])
def test_every_save_link_downloads_a_file(chromium, page, tab):
    opened(chromium, page, f"{MOMENT}&measured=300&tab={tab}&{TRACE}")
    eventually(chromium, "return document.querySelectorAll('#details a[download]').length > 0", True)
    eventually(chromium, "return !!document.querySelector('[aria-label=Convergence] a[download]')", True)
    for link in chromium.run(LINKS):
        with urllib.request.urlopen(link, timeout=60) as answer:
            assert answer.read(), link


def test_the_timeline_is_saved_as_a_picture(chromium, page, tmp_path):
    opened(chromium, page, f"{MOMENT}&measured=300")
    eventually(chromium, "return document.querySelectorAll('svg.drawn').length", 2)
    chromium.downloads_to(tmp_path)
    for button in (0, 1):
        chromium.run("document.querySelectorAll('.saves button')[arguments[0]].click()", button)
    svg, png = tmp_path / "timeline.svg", tmp_path / "timeline.png"
    until(lambda: svg.exists() and png.exists(), "both are there")
    until(lambda: png.read_bytes().endswith(b"IEND\xaeB`\x82"), "the picture is whole")
    assert png.read_bytes().startswith(b"\x89PNG")
    drawn = ElementTree.fromstring(svg.read_text())
    space = "{http://www.w3.org/2000/svg}"
    assert len(drawn.findall(f"{space}svg")) == 2
    shapes = [shape for lane in drawn.findall(f"{space}svg") for shape in lane if not shape.tag.endswith("title")]
    assert len(shapes) > 50 and all(shape.get("fill") for shape in shapes), "their colours came along"
    assert chromium.console() == []
