"""Kubelets and pods of all kinds, in a separate lab: probes, exits of processes, pods created by clients."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.lab.answers import PodStatus
from harness.lab.control import LabClient
from harness.lab.control_plane.kubelet import FIRST_POD_ADDRESS, MAX_PODS, Kubelet
from harness.lab.launch import lab
from harness.lab.topology import LabOptions, nodes_of
from tests.waiting import until as eventually

from .conftest import curl

pytestmark = pytest.mark.xdist_group("lab")

API = "http://10.10.0.1:6443"
PODS = f"{API}/api/v1/namespaces/lab/pods"


@pytest.fixture(scope="module")
def noticing(kernel_namespaces, tmp_path_factory):
    """A lab whose kubelets see processes end, and start them again."""
    options = LabOptions(
        nodes=2, pods=2, min_sync_period_seconds=0.05, exit_notice_seconds=0.2, restart_seconds=0.5, drain_seconds=0
    )
    with lab(options, tmp_path_factory.mktemp("kubelets") / "lab") as client:
        yield client


def send(client: LabClient, method: str, url: str, manifest: dict | None = None) -> dict:
    """One request of the lab's API; its answer."""
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    command = ["curl", "-sS", "-X", method, "-H", f"Content-Type: {kind}", "--data-binary", "@-", url]
    done = client.run(None, command, json.dumps(manifest or {}).encode())
    return json.loads(done.stdout)


def make(client: LabClient, name: str, probe: dict | None, node: str | None = "node-1") -> None:
    """A pod without an owner, created as by any client of the API."""
    container = {"name": "c", "image": "lab/web"} | ({"readinessProbe": probe} if probe else {})
    spec = {"containers": [container]} | ({"nodeName": node} if node else {})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "lab"}, "spec": spec}
    answer = send(client, "POST", PODS, pod)
    assert answer["kind"] == "Pod", answer


def pod(client: LabClient, name: str) -> PodStatus:
    """Its status; before it exists, that of a pod which is neither ready nor running."""
    missing = PodStatus(name, "", None, False, False, False, False, None, None, 0)
    return next((pod for pod in client.status().pods if pod.name == name), missing)


def ready(client: LabClient, name: str, wanted: bool = True) -> None:
    eventually(lambda: pod(client, name).ready is wanted)


def test_a_tcp_probe_detects_a_dead_process_but_not_a_hanging_one(noticing):
    make(noticing, "tcp", {"tcpSocket": {"port": 9090}, "periodSeconds": 1, "failureThreshold": 1})
    ready(noticing, "tcp")
    noticing.perform("pod.health", pod="tcp", word="fail")
    noticing.perform("pod.signal", pod="tcp", number="SIGSTOP")
    time.sleep(2.5)  # what must not happen cannot be waited for: the kernel goes on to accept connections
    assert pod(noticing, "tcp").ready
    noticing.perform("pod.signal", pod="tcp", number="SIGKILL")
    ready(noticing, "tcp", False)


def test_an_exec_probe_follows_the_exit_code_and_a_hanging_one_fails(noticing):
    flag = noticing.folder / "pods" / "exec" / "flag"
    command = ["sh", "-c", f"test $(cat {flag}) = good || sleep 60"]
    probe = {"exec": {"command": command}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}
    make(noticing, "exec", probe)
    eventually(flag.parent.exists)
    assert not pod(noticing, "exec").ready
    flag.write_text("good")
    ready(noticing, "exec")
    flag.write_text("bad")
    ready(noticing, "exec", False)


def test_initial_delay_and_success_threshold_make_a_pod_ready_later(noticing):
    probe = {"httpGet": {"port": 8080, "path": "/healthz"}, "periodSeconds": 1}
    make(noticing, "late", {**probe, "initialDelaySeconds": 2, "successThreshold": 2})
    eventually(lambda: pod(noticing, "late").running)
    began = time.monotonic()
    ready(noticing, "late")
    assert time.monotonic() - began > 2.5  # 2 s, and a second success one period later; looking is not at once


def test_without_a_probe_a_pod_is_ready_until_its_end_is_seen(noticing):
    make(noticing, "bare", None)
    ready(noticing, "bare")
    noticing.perform("pod.health", pod="bare", word="fail")
    noticing.perform("pod.signal", pod="bare", number="SIGKILL")
    ready(noticing, "bare", False)
    ready(noticing, "bare")
    assert pod(noticing, "bare").restarts == 1


def test_every_exit_of_a_process_is_counted(noticing):
    for count in (1, 2):
        noticing.perform("pod.signal", pod="web-1", number="SIGKILL")
        eventually(lambda count=count: pod(noticing, "web-1").restarts == count)
        ready(noticing, "web-1")
    status = send(noticing, "GET", f"{PODS}/web-1")["status"]["containerStatuses"][0]
    assert (status["restartCount"], status["ready"]) == (2, True)


def test_a_dead_kubelet_starts_nothing(noticing):
    noticing.perform("node.kubelet", node="node-2", running=False)
    noticing.perform("pod.signal", pod="web-2", number="SIGKILL")
    eventually(lambda: not pod(noticing, "web-2").running)
    time.sleep(1.2)  # longer than it takes to notice and to start
    assert not pod(noticing, "web-2").running
    noticing.perform("node.kubelet", node="node-2", running=True)
    ready(noticing, "web-2")
    assert pod(noticing, "web-2").restarts == 1


def test_foreign_pods_are_not_touched_and_unscheduled_ones_wait(noticing):
    make(noticing, "nowhere", None, node=None)
    make(noticing, "somebody-s", None)
    ready(noticing, "somebody-s")
    assert "nowhere" not in {p.name for p in noticing.status().pods}
    assert send(noticing, "DELETE", f"{PODS}/somebody-s")["kind"] in ("Pod", "Status")
    eventually(lambda: not pod(noticing, "somebody-s").running)
    assert pod(noticing, "web-1").running


def test_an_invalid_probe_fails_only_its_pod(noticing):
    make(noticing, "senseless", {"tcpSocket": {"port": 70000}})
    status = eventually(lambda: send(noticing, "GET", f"{PODS}/senseless").get("status"))
    assert (status["phase"], status["reason"]) == ("Failed", "InvalidProbe")
    assert "70000" in status["message"]
    assert pod(noticing, "web-1").running


def test_zone_hints_keep_traffic_in_its_zone(noticing):
    service = f"{API}/api/v1/namespaces/lab/services/web"
    send(noticing, "PATCH", service, {"spec": {"trafficDistribution": "PreferClose"}})
    for number in (1, 2):
        eventually(lambda n=number: _answering_nodes(noticing, n) == {f"node-{n}"})
    send(noticing, "PATCH", service, {"spec": {"trafficDistribution": None}})
    eventually(lambda: _answering_nodes(noticing, 1) == {"node-1", "node-2"})


def _answering_nodes(client: LabClient, number: int) -> set[str]:
    return {curl(client, f"caller-{number}", "http://10.112.0.10/").split()[1] for _ in range(12)}


class Recorded:
    """The API as a kubelet uses it: what it writes of pods."""

    def __init__(self, pods: list[dict]) -> None:
        self._pods, self.written = pods, {}

    def pods(self) -> list[dict]:
        return self._pods

    async def update(self, _resource: str, name: str, change) -> None:
        self.written[name] = change({"metadata": {"name": name}})["status"]


def test_a_full_node_rejects_a_pod_and_continues(tmp_path):
    options = LabOptions(nodes=1)
    (node,) = nodes_of(options)
    more = {"metadata": {"name": "more"}, "spec": {"nodeName": node.name}, "status": {}}
    api = Recorded([more])
    kubelet = Kubelet(node, options, api, tmp_path)
    for number in range(MAX_PODS):
        name = f"web-{number}"
        kubelet.containers[name] = SimpleNamespace(name=name, address=node.pod_address(number + FIRST_POD_ADDRESS))
    asyncio.run(kubelet._create("more", more))
    message = "Node didn't have enough resource: pods, requested: 1, used: 110, capacity: 110"
    assert api.written == {"more": {"phase": "Failed", "reason": "OutOfpods", "message": message}}
    assert len(kubelet.containers) == MAX_PODS


def test_options_of_up_reach_the_kubelets(kernel_namespaces, tmp_path):
    folder = ["--lab", str(tmp_path / "lab")]
    words = ["--nodes", "1", "--pods", "2", "--probe", "none", "--exit-notice", "200ms", "--restart-after", "300ms"]
    up = CliRunner().invoke(main, ["lab", "up", *folder, *words])
    try:
        assert up.exit_code == 0, up.output
        client = LabClient(tmp_path / "lab")
        client.perform("pod.signal", pod="web-1", number="SIGKILL")
        eventually(lambda: pod(client, "web-1").restarts == 1)
        assert "readinessProbe" not in send(client, "GET", f"{PODS}/web-1")["spec"]["containers"][0]
    finally:
        CliRunner().invoke(main, ["lab", "down", *folder])
    done = CliRunner().invoke(main, ["lab", "up", *folder, "--restart-after", "1s"])
    assert done.exit_code == 2
    assert "needs --exit-notice" in done.output
