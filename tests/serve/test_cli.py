"""The command: ready line, clean end, kubeconfig, bad input."""

from __future__ import annotations

import base64
import json
import signal
import socket
import ssl
import stat
import subprocess
import urllib.request

import pytest
import yaml

from harness.log import open_source
from harness.log.state import State
from tests.serve.conftest import DEMO, Served, ask


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_watches_open(serve, signum):
    served = serve(DEMO, "--speed", "max")
    replies = [urllib.request.urlopen(f"{served.url}/api/v1/nodes?watch=1", timeout=60) for _ in range(5)]
    assert all(reply.readline() for reply in replies)
    assert served.stop(signum) == (0, "")
    assert all(reply.read().endswith(b"\n") for reply in replies), "no event is cut in two"


def test_the_ready_line_says_where_and_what(serve):
    served = serve(DEMO, "--start-paused")
    assert served.ready.startswith(f"serving {DEMO} at http://127.0.0.1:")
    assert "41 services, 50 endpointslices, 6 nodes, 0 pods; paused" in served.ready


def test_tls_and_token_through_the_kubeconfig(serve, tmp_path):
    path = tmp_path / "kubeconfig"
    served = serve(DEMO, "--tls", "--token", "s3cret", "--write-kubeconfig", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    config = yaml.safe_load(path.read_text())
    authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    url, token = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]["token"]
    assert url == served.url and url.startswith("https://")
    request = urllib.request.Request(url + "/api/v1/nodes", headers={"Authorization": f"Bearer {token}"})
    assert urllib.request.urlopen(request, context=context, timeout=60).status == 200


def test_a_certificate_for_all_addresses(serve, tmp_path):
    """Any name of this machine verifies, and the kubeconfig names an address that can be connected to."""
    path = tmp_path / "kubeconfig"
    served = serve(DEMO, "--tls", "--host", "0.0.0.0", "--write-kubeconfig", path)
    cluster = yaml.safe_load(path.read_text())["clusters"][0]["cluster"]
    assert cluster["server"] == served.url and served.url.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    port = served.url.rpartition(":")[2]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:
            out.connect(("192.0.2.1", 9))
            mine = out.getsockname()[0]
        except OSError:
            mine = "127.0.0.1"
    for name in ("127.0.0.1", "0.0.0.0", "localhost", mine):
        assert urllib.request.urlopen(f"https://{name}:{port}/healthz", context=context, timeout=60).read() == b"ok"


def test_certificates_of_your_own(serve, tmp_path):
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    command = (
        "openssl req -x509 -nodes -newkey rsa:2048 -days 1 -subj /CN=x -addext subjectAltName=IP:127.0.0.1 -keyout"
    )
    subprocess.run([*command.split(), key, "-out", cert], check=True, capture_output=True)
    served = serve(DEMO, "--tls-cert", cert, "--tls-key", key)
    context = ssl.create_default_context(cafile=str(cert))
    assert urllib.request.urlopen(served.url + "/healthz", context=context, timeout=60).read() == b"ok"


def test_bad_input_is_refused_before_anything_listens(tmp_path):
    bad = tmp_path / "bad.jsonl"
    lines = DEMO.read_text().splitlines()[:4] + ["{"]
    bad.write_text("\n".join(lines) + "\n")
    served = Served(bad)
    code, errors = served.finished()
    assert code == 2 and served.ready == "" and f"{bad}:5: not an event" in errors


def test_bad_input_further_on_ends_it(tmp_path):
    bad = tmp_path / "bad.jsonl"
    lines = DEMO.read_text().splitlines()
    bad.write_text("\n".join(lines[:110] + ["{"]) + "\n")
    served = Served(bad, "--speed", "max")
    assert served.ready
    code, errors = served.finished()
    assert code == 2 and f"{bad}:111: not an event" in errors


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--speed", "fast"), "'fast' is neither max nor a factor"),
        (("--from", "soon"), "'soon' is not a duration"),
        (("--tls-cert", DEMO), "must be given together"),
        (("--tls-cert", DEMO, "--tls-key", DEMO), "not a certificate"),
        (("--port", "70000"), "70000"),
    ],
)
def test_bad_options(arguments, said):
    code, errors = Served(DEMO, *arguments).finished()
    assert code in (1, 2) and said in errors


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, errors = Served(DEMO, "--port", taken.getsockname()[1]).finished()
    assert code == 1 and "address already in use" in errors.lower()


def test_a_kubectl_dump_is_served(serve, tmp_path):
    listed = ask(serve(DEMO, "--start-paused").url + "/api/v1/services").body
    dump = tmp_path / "dump.json"
    dump.write_text(json.dumps(listed | {"kind": "List"}))
    served = serve(dump)
    assert ask(served.url + "/api/v1/services").body["items"] == listed["items"]


def test_writes_go_into_the_journal(serve, tmp_path):
    path = tmp_path / "journal.jsonl"
    served = serve(DEMO, "--writable", "--until", "0s", "--journal", path)
    web = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}}
    assert ask(f"{served.url}/api/v1/namespaces/shop/services", "POST", web).code == 201
    assert served.stop() == (0, "")
    before, after = State(), State()
    with open_source(DEMO) as recording:
        for event in recording:
            if event.t == 0:
                before.apply(event)
    with open_source(path) as recording:
        assert recording.header.cluster["name"] == "synth-19"
        for event in recording:
            after.apply(event)
    assert set(after.objects) - set(before.objects) == {("services", "shop", "web")}
    assert set(before.objects) < set(after.objects)
