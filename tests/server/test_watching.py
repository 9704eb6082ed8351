"""Whatever happens to the API server, programmed rules stay, and finally the kernel matches the events."""

from __future__ import annotations

from pathlib import Path

from harness.conformance.corpus.clusters import end, node, service, slice_
from tests.server.lab import API_PORT, eventually

ROOT = Path(__file__).resolve().parent.parent.parent
OBJECTS = [node(), service(), slice_(end("10.180.0.1", "n1"), end("10.180.1.1", "n2"))]
TWO = slice_(end("10.180.0.1", "n1"), end("10.180.2.1", "n2"))
OTHER = service(name="s2", ip="172.30.0.42")
STORY = [("MODIFIED", TWO), ("ADDED", OTHER), ("DELETED", service())]
FULL_SYNCS = 'kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"}'


def test_changes_are_followed_one_by_one(lab):
    """Changed, added, relabelled away (SVC-01: as good as deleted), deleted; each by a partial sync.

    A Service with the headless label and a cluster IP is beside them all the time: it counts (SVC-01a).
    """
    mine = service(name="s3", ip="172.30.0.43")
    labels = {"labels": {"service.kubernetes.io/service-proxy-name": "other"}}
    foreign = service(name="s3", ip="172.30.0.43", meta=labels)
    headless = service(name="s4", ip="172.30.0.44", meta={"labels": {"service.kubernetes.io/headless": ""}})
    story = [*STORY[:2], ("ADDED", mine), ("MODIFIED", foreign), STORY[2]]
    daemon = lab.start([*OBJECTS, headless], story)
    for _ in story:
        lab.step()
        lab.converges()
    assert lab.metrics()[FULL_SYNCS] == 1
    assert daemon.end() == 0


def test_the_api_is_down_and_returns(lab):
    """Rules and health stay meanwhile (INV-02); what was missed, a delete too, is the new list's difference."""
    lab.record(OBJECTS, STORY)
    api, daemon = lab.serve(), lab.daemon()
    lab.converges()
    assert api.end() == 0
    eventually(lambda: "List or watch failed" in daemon.text(), "the loss is logged")
    assert lab.differences() == []
    assert lab.http(10256, "/healthz").status == 200
    lab.serve("--from", "90000", "--history", "1")
    lab.skip()
    lab.converges()
    assert lab.metrics()[FULL_SYNCS] == 1


def test_a_start_before_the_api_is_there(lab, namespace):
    """Its answer is waited for, whatever the bind address (CFG-20a)."""
    lab.record(OBJECTS)
    lab.serve().end()
    daemon = lab.daemon(bindAddress="192.168.0.2")
    daemon.says("Waiting for the API server")
    assert namespace.run(["nft", "list", "tables"]).stdout == b""
    lab.serve()
    lab.converges()


def test_a_start_before_the_api_is_there_up_to_1_33(lab, namespace):
    """Nothing is written until both lists are complete (SYNC-01); alive before the first update (HC-06)."""
    single = {"status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.2"}]}}
    lab.record([node(**single), *OBJECTS[1:]])
    lab.serve().end()
    daemon = lab.daemon("--kube-version", "1.33", bindAddress="192.168.0.2")
    daemon.says("List or watch failed")
    assert namespace.run(["nft", "list", "tables"]).stdout == b""
    assert lab.http(10256, "/livez").status == 200
    lab.serve()
    lab.converges()


def test_a_node_that_never_appears_is_not_eligible(lab):
    """HC-09a."""
    (lab.folder / "sitecustomize.py").write_text("import engine.server.api.node as n\nn.ADDRESS_SECONDS = 0\n")
    lab.record(OBJECTS[1:])
    lab.serve()
    lab.daemon(environment={"PYTHONPATH": str(lab.folder)}, bindAddress="192.168.0.2")
    eventually(lambda: lab.http(10256, "/livez"), "alive")
    assert lab.http(10256, "/healthz").json()["nodeEligible"] is False


def test_expired_resource_versions(lab):
    """An API server set back, as from a backup, ends watches with 410: the difference is delivered, also backwards."""
    daemon = lab.start(OBJECTS, STORY[:2])
    lab.step(2)
    lab.converges()
    assert lab.http(API_PORT, "/control/seek?to=1", "POST", tls=True).status == 200
    lab.back(2)
    lab.converges()
    assert "listing again" in daemon.text()


def test_a_thread_that_breaks_ends_the_process(lab):
    """It is started again by its supervisor, instead of never hearing of a change again."""
    broken = "raise ZeroDivisionError('broken')"
    (lab.folder / "sitecustomize.py").write_text(
        f"import engine.server.api.watching as w\nclass F(w.Follower):\n    def run(self): {broken}\nw.Follower = F\n"
    )
    lab.record(OBJECTS)
    lab.serve()
    daemon = lab.daemon(environment={"PYTHONPATH": str(lab.folder)})
    assert daemon.popen.wait(60) == 1
    daemon.says("ZeroDivisionError: broken")


def test_ten_thousand_services(lab):
    """The committed recording over HTTPS, its churn in one storm, read back and judged by the oracle."""
    lab.replay(ROOT / "recordings" / "10k-svc.jsonl", "node-0001")
    lab.serve("--speed", "max")
    lab.daemon().says('"Started"', 120)
    assert lab.http(API_PORT, "/control/resume", "POST", tls=True).status == 200
    lab.converges(120)
