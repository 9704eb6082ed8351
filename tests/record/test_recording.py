"""`harness record` against a real API over real connections, which break in every way."""

from __future__ import annotations

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from click.testing import CliRunner

from harness.apiserver.kubeconfig import kubeconfig as make_kubeconfig
from harness.apiserver.kubeconfig import write_kubeconfig
from harness.apiserver.live import LiveStore
from harness.cli import main
from harness.kube.access import Access
from harness.record.session import RecordOptions, open_session
from tests.record.cluster import RESOURCES, Cluster, events_of, folded_or_none


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst"])
def test_the_fold_of_a_recording_is_the_cluster(cluster, record, tmp_path, suffix):
    out = tmp_path / f"a{suffix}"
    recorder = record(cluster, "--out", out)
    recorder.until_like(cluster, out)
    cluster.churn(seed=2, changes=200)
    recorder.until_like(cluster, out)
    assert recorder.stop() == 0, recorder.said
    events = events_of(out)
    first = [kind for seq, t, kind, *_ in events if t == 0]
    assert set(first) == {"ADDED", "BOOKMARK"} and first.count("BOOKMARK") == len(RESOURCES)
    assert not {"GAP", "RELIST"} & {kind for _, _, kind, *_ in events}, "nothing was missed"
    assert all(b"managedFields" not in raw for *_, raw in events)
    assert [seq for seq, *_ in events] == list(range(1, len(events) + 1))
    assert f"up to seq {len(events)}" in recorder.said


def test_a_recording_is_continued_with_the_difference(cluster, record, tmp_path):
    out = tmp_path / "a.jsonl"
    recorder = record(cluster, "--out", out)
    recorder.until_like(cluster, out)
    assert recorder.stop() == 0
    before = events_of(out)
    cluster.churn(seed=3, changes=100)
    recorder = record(cluster, "--out", out)
    recorder.until_like(cluster, out)
    recorder.stop()
    events = events_of(out)
    assert events[: len(before)] == before
    added = [(kind, resource) for _, _, kind, resource, _ in events[len(before) :]]
    for resource in RESOURCES:
        assert added.count(("GAP", resource)) == added.count(("RELIST", resource)) == 1
    assert f"continuing after seq {len(before)}" in recorder.said
    assert events[len(before)][1] > before[-1][1], "time goes on"


def test_a_broken_connection_is_resumed_and_nothing_is_missed(cluster, record, tmp_path):
    """Every single version of an object is recorded, though the connections break all the time."""
    out = tmp_path / "a.jsonl"
    recorder = record(cluster, "--out", out)
    recorder.until_like(cluster, out)
    versions = []
    for round_ in range(8):
        for number in range(10):
            made = cluster.store.apply("nodes", {"metadata": {"name": "busy"}, "status": {"n": f"{round_}.{number}"}})
            versions.append(made["metadata"]["resourceVersion"])
            if number == 5:
                cluster.proxy.cut()
        recorder.until_like(cluster, out)
    recorder.stop()
    text = out.read_text()
    assert [v for v in versions if f'"resourceVersion":"{v}"' not in text] == []
    assert '"type":"GAP"' not in text


def test_a_replaced_api_is_listed_again(cluster, record, tmp_path):
    out = tmp_path / "a.jsonl"
    recorder = record(cluster, "--out", out)
    recorder.until_like(cluster, out)
    cluster.restart(keep=False)
    cluster.churn(seed=4, changes=40)
    recorder.until_like(cluster, out)
    recorder.stop()
    kinds = [kind for _, _, kind, *_ in events_of(out)]
    assert kinds.count("RELIST") >= 3 and kinds.count("GAP") >= 3 and "DELETED" in kinds


def test_a_version_that_was_compacted_away_is_a_gap(record, tmp_path):
    with Cluster(tmp_path, store=LiveStore(history=5)) as cluster:
        cluster.churn(seed=1, changes=60)
        out = tmp_path / "a.jsonl"
        recorder = record(cluster, "--out", out)
        recorder.until_like(cluster, out)
        cluster.proxy.target = None
        cluster.proxy.cut()
        cluster.churn(seed=5, changes=100)
        cluster.proxy.target = cluster._port()
        recorder.until_like(cluster, out)
        recorder.stop()
        assert any(kind == "GAP" for _, _, kind, *_ in events_of(out))


def test_only_the_requested_resources_are_recorded(cluster, record, tmp_path):
    cluster.store.apply("pods", {"metadata": {"name": "p", "namespace": "shop", "labels": {"app": "a1"}}, "spec": {}})
    out = tmp_path / "a.jsonl"
    resources = (*RESOURCES, "pods")

    def wanted(key, manifest) -> bool:
        return key[0] == "nodes" or key[1] == "shop" and manifest["metadata"].get("labels", {}).get("app") == "a1"

    recorder = record(cluster, "--out", out, "--pods", "-n", "shop", "-l", "app=a1")
    cluster.churn(seed=6, changes=100)
    expected = {key: manifest for key, manifest in cluster.truth(resources).items() if wanted(key, manifest)}
    recorder.until(lambda: out.exists() and folded_or_none(out) == expected, "the part asked for")
    recorder.stop()
    assert {key[0] for key in expected} == set(resources)


def test_token_and_certificate_of_the_kubeconfig(record, tmp_path):
    with Cluster(tmp_path, tls=True, token="s3cret") as cluster:
        cluster.churn(seed=1, changes=20)
        out = tmp_path / "a.jsonl"
        recorder = record(cluster, "--out", out)
        recorder.until_like(cluster, out)
        assert recorder.stop() == 0


def test_a_token_in_a_file_is_read_again_when_it_was_renewed(record, tmp_path):
    """As client-go reads it: not before it was refused, or is a minute old."""
    with Cluster(tmp_path, token="first") as cluster:
        cluster.churn(seed=1, changes=20)
        config, file, out = yaml.safe_load(cluster.kubeconfig.read_text()), tmp_path / "token", tmp_path / "a.jsonl"
        file.write_text("first\n")
        config["users"][0]["user"] = {"tokenFile": "token"}
        cluster.kubeconfig.write_text(yaml.safe_dump(config))
        recorder = record(cluster, "--out", out)
        recorder.until_like(cluster, out)
        cluster.options["token"] = "second"
        cluster.restart(keep=True)
        cluster.churn(seed=2, changes=20)
        recorder.until(lambda: "401" in recorder.said, "that it is refused")
        file.write_text("second\n")
        recorder.until_like(cluster, out)
        assert recorder.stop() == 0


def test_missing_permissions_are_named(record, tmp_path):
    with Cluster(tmp_path, token="s3cret") as cluster:
        text = cluster.kubeconfig.read_text()
        cluster.kubeconfig.write_text(text.replace("s3cret", "stale"))
        recorder = record(cluster, "--out", tmp_path / "a.jsonl")
        assert recorder.ended() == 1
        assert "401" in recorder.said and "Traceback" not in recorder.said


def test_without_an_api_nothing_is_recorded(record, tmp_path):
    with Cluster(tmp_path) as cluster:
        cluster.proxy.target = None
        recorder = record(cluster, "--out", tmp_path / "a.jsonl")
        assert recorder.ended() == 1
        assert "does not answer" in recorder.said and "Traceback" not in recorder.said
        assert not (tmp_path / "a.jsonl").exists(), "nothing half-done is left behind"


def test_a_file_that_is_no_recording_is_not_touched(cluster, record, tmp_path):
    for name, content in (("notes.jsonl", b"dear diary\nno newline"), ("x.jsonl.zst", b"\x28\xb5\x2f\xfdrubbish....")):
        out = tmp_path / name
        out.write_bytes(content)
        recorder = record(cluster, "--out", out)
        assert recorder.ended() == 2
        assert "Traceback" not in recorder.said and out.read_bytes() == content


def test_a_file_has_one_writer(cluster, record, tmp_path):
    out = tmp_path / "a.jsonl"
    first = record(cluster, "--out", out)
    first.until_like(cluster, out)
    second = record(cluster, "--out", out)
    assert second.ended() == 2 and "is being written by another process" in second.said
    assert first.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("text", ["words", "a: [", "", "[]", "clusters: 3", "kind: Config\n"])
def test_an_invalid_kubeconfig_is_reported(tmp_path, text):
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    done = CliRunner().invoke(main, ["record", "--out", str(tmp_path / "a.jsonl"), "--kubeconfig", str(file)])
    assert done.exit_code == 1 and "error: " in done.output, done.output
    assert isinstance(done.exception, SystemExit) and not (tmp_path / "a.jsonl").exists()


def test_an_unknown_context_is_reported(cluster, tmp_path):
    options = ["--out", str(tmp_path / "a.jsonl"), "--kubeconfig", str(cluster.kubeconfig), "--context", "nowhere"]
    done = CliRunner().invoke(main, ["record", *options])
    assert done.exit_code == 1 and "nowhere" in done.output


class Forbidding(BaseHTTPRequestHandler):
    """An API server of which the recorder may ask everything but ServiceCIDRs."""

    def do_GET(self) -> None:
        code, body = 200, {"gitVersion": "v1.35.1"}
        if self.path.endswith("/servicecidrs"):
            code, body = 403, {"kind": "Status", "message": "servicecidrs is forbidden"}
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass


def test_header_fields_missing_for_lack_of_permission_are_reported(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forbidding)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = tmp_path / "kubeconfig"
    write_kubeconfig(kubeconfig, make_kubeconfig(f"http://127.0.0.1:{server.server_port}", None, None))
    session = open_session(RecordOptions(out=tmp_path / "a.jsonl", access=Access(str(kubeconfig))))
    session.close(patient=False)
    server.shutdown()
    server.server_close()
    assert session.header.cluster["version"] == "v1.35.1" and "serviceCIDRs" not in session.header.cluster
    (note,) = session.notes
    assert "will lack serviceCIDRs: 403: servicecidrs is forbidden; to include them, allow listing servicecidrs" in note


@pytest.mark.parametrize("start", [None, "yesterday", "2026-01-31T12:00:00"])
def test_a_recording_of_unknown_start_is_not_continued(start, tmp_path):
    """The `t` of its next event is unknown; no request is sent, nothing is written."""
    out, config = tmp_path / "a.jsonl", tmp_path / "kubeconfig"
    config.write_text(json.dumps(make_kubeconfig("http://127.0.0.1:9", None, None)))
    header = {"format": "kube-proxy-harness/recording", "version": 1, "resources": list(RESOURCES)}
    out.write_text(json.dumps(header | ({"start": start} if start else {})) + "\n")
    before = out.read_bytes()
    done = CliRunner().invoke(main, ["record", "--kubeconfig", str(config), "--out", str(out)])
    assert done.exit_code == 2 and "Traceback" not in done.output, done.output
    assert f"{out}:1: " in done.output and "cannot be continued" in done.output
    assert out.read_bytes() == before
