"""The lab: real nodes, pods, probes, engines and packets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.lab.answers import PodStatus
from harness.lab.control import LabClient, LabError
from harness.lab.launch import lab
from harness.lab.topology import LabOptions
from harness.log import open_source
from harness.log.state import State, folded
from tests.waiting import until as eventually

from .conftest import curl, marked

pytestmark = pytest.mark.xdist_group("lab")


def pods(client: LabClient, **wanted) -> list[PodStatus]:
    """The pods that meet all conditions."""
    return [p for p in client.status().pods if all(getattr(p, key) == value for key, value in wanted.items())]


def ready_count(client: LabClient) -> int:
    return len(pods(client, ready=True, terminating=False))


def test_every_service_address_reaches_every_pod(cluster):
    names = {pod.name for pod in cluster.status().pods}
    ways = [
        ("client", "http://10.10.0.11:30080/"), ("client", "http://10.10.0.12:30080/"),
        ("client", "http://198.51.100.10/"), ("caller-1", "http://10.112.0.10/"), ("node-2", "http://10.112.0.10/"),
    ]  # fmt: skip
    for where, url in ways:
        seen = eventually(lambda where=where, url=url: _seen(cluster, where, url, names))
        assert seen == names, (where, url)


def _seen(client, where, url, names) -> set[str] | None:
    command = ["sh", "-c", f"for i in $(seq 40); do curl -s -m 2 {url}; done"]
    found = {line.split()[0] for line in client.run(where, command).stdout.decode().splitlines()}
    return found if found == names else None


def test_a_sticky_client_stays_and_a_local_service_answers_from_its_node(cluster):
    assert len({curl(cluster, "client", "http://10.10.0.11:30090/") for _ in range(8)}) == 1
    for number in (1, 2):
        assert curl(cluster, "client", f"http://10.10.0.1{number}:30100/").split()[1] == f"node-{number}"


def test_a_failing_probe_takes_the_pod_out_of_every_kernel_and_a_good_one_brings_it_back(cluster):
    pod = pods(cluster, ready=True)[0]
    began = cluster.status().seconds
    cluster.perform("pod.health", pod=pod.name, word="fail")
    eventually(lambda: not pods(cluster, name=pod.name)[0].ready)
    gone = eventually(lambda: _answers(cluster, began, pod, wanted=False))
    cluster.perform("pod.health", pod=pod.name, word="ok")
    back = eventually(lambda: _answers(cluster, began, pod, wanted=True))
    for answers in (gone, back):
        assert {a.node for a in answers} == {"node-1", "node-2"}
        assert all(a.seen is not None and a.seen >= a.asked for a in answers)


def _answers(client, since, pod, wanted):
    found = client.observations(since)
    found = [o for o in found if o.address == pod.address and o.wanted is wanted]
    return found if len(found) == 2 else None


def test_a_killed_process_is_noticed_by_its_probe(cluster):
    pod = pods(cluster, ready=True)[-1]
    cluster.perform("pod.signal", pod=pod.name, number="SIGKILL")
    eventually(lambda: not pods(cluster, name=pod.name)[0].ready)
    cluster.perform("pod.start", pod=pod.name)
    eventually(lambda: ready_count(cluster) == 4)


def test_a_deleted_pod_terminates_and_is_replaced(cluster):
    pod = pods(cluster, ready=True)[0]
    cluster.perform("pod.delete", pod=pod.name, grace_seconds=5)
    assert pods(cluster, name=pod.name)[0].terminating
    eventually(lambda: not pods(cluster, name=pod.name))
    eventually(lambda: ready_count(cluster) == 4)


def test_impossible_operations_are_rejected_with_a_reason(cluster):
    with pytest.raises(LabError, match="no pod 'nobody' runs in the lab"):
        cluster.perform("pod.signal", pod="nobody", number="SIGKILL")
    with pytest.raises(LabError, match="no node 'node-9'; there are: node-1, node-2"):
        cluster.perform("node.kubelet", node="node-9", running=False)
    with pytest.raises(LabError, match="unknown operation 'dance'"):
        cluster.perform("dance")
    with pytest.raises(LabError, match="not a fault of the API"):
        cluster.perform("api.fault", kind="rain")


def test_a_lost_node_loses_its_pods_and_gets_them_back(cluster):
    cluster.perform("node.kubelet", node="node-2", running=False)
    eventually(lambda: not pods(cluster, node="node-2", ready=True))
    assert [n.ready for n in cluster.status().nodes] == [True, False]
    cluster.perform("node.kubelet", node="node-2", running=True)
    eventually(lambda: ready_count(cluster) == 4)


def test_writes_wait_while_the_api_is_down_and_engines_follow_when_it_is_back(cluster):
    pod = pods(cluster, ready=True)[0]
    cluster.perform("api.fault", kind="down")
    cluster.perform("pod.health", pod=pod.name, word="fail")
    assert cluster.status().faults == ["down"]
    time.sleep(4)  # a probe needs its three failures; what must not happen cannot be waited for
    assert pods(cluster, name=pod.name)[0].ready
    began = cluster.status().seconds
    cluster.perform("api.heal")
    eventually(lambda: _answers(cluster, began, pod, wanted=False), seconds=40)
    cluster.perform("pod.health", pod=pod.name, word="ok")
    eventually(lambda: ready_count(cluster) == 4)


def test_a_service_that_a_client_creates_works_and_goes_with_its_slices(cluster):
    """With no address, no node port, and the target port by its name."""
    url = "http://10.10.0.1:6443/api/v1/namespaces/lab/services"
    spec = {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 8081, "targetPort": "http"}]}
    body = json.dumps({"metadata": {"name": "mine", "creationTimestamp": None}, "spec": spec})
    post = ["curl", "-s", "-X", "POST", "-H", "Content-Type: application/json", "-d", body, url]
    made = json.loads(cluster.run(None, post).stdout)
    assert made["metadata"]["creationTimestamp"], "kubectl leaves it to the server by null"
    port = made["spec"]["ports"][0]["nodePort"]
    assert eventually(lambda: curl(cluster, "client", f"http://10.10.0.11:{port}/")).startswith("web-")
    assert eventually(lambda: curl(cluster, "caller-1", f"http://{made['spec']['clusterIP']}:8081/")).startswith("web-")
    named = (
        json.dumps({"spec": {"type": "LoadBalancer"}}),
        json.dumps({"status": {"loadBalancer": {"ingress": [{"hostname": "mine.example.org"}]}}}),
    )
    for body, part in zip(named, ("mine", "mine/status"), strict=True):
        patch = ["curl", "-s", "-X", "PATCH", "-H", "Content-Type: application/merge-patch+json", "-d", body]
        cluster.run(None, [*patch, f"{url}/{part}"])
    assert "mine.example.org" in [service.balancer for service in cluster.status().services]
    cluster.run(None, ["curl", "-s", "-X", "DELETE", f"{url}/mine"])
    slices = "http://10.10.0.1:6443/apis/discovery.k8s.io/v1/namespaces/lab/endpointslices"
    eventually(lambda: '"mine-0"' not in curl(cluster, None, slices))


def test_a_labs_log_folds_to_its_state(cluster):
    cluster.fault_note({"fault": "none", "pod": "web-1", "phase": "inject"})
    with open_source(cluster.folder / "events.jsonl") as recording:
        state = State()
        kinds = {event.type for event in folded(recording, state)}
    assert kinds >= {"ADDED", "MODIFIED", "DELETED", "FAULT", "BOOKMARK"}
    names = {key[2] for key in state.objects if key[0] == "pods"}
    assert names == {pod.name for pod in cluster.status().pods}


def test_nothing_outlives_a_lab_however_it_ends(kernel_namespaces, tmp_path):
    script = (
        "import sys, pathlib\n"
        "from harness.lab.launch import start\n"
        "from harness.lab.topology import BALANCER_ADDRESS, CLIENT_ADDRESS, LabOptions\n"
        "client = start(LabOptions(nodes=1, pods=1), pathlib.Path(sys.argv[1]), lambda line: None)\n"
        "print(client.facts.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "lab")]
    owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    watched = os.pidfd_open(int(owner.stdout.readline()))
    marks = marked(tmp_path)
    assert len(marks) >= 3
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    eventually(lambda: not marked(tmp_path))
    os.close(watched)
    owner.stdin.close()
    owner.stdout.close()
    # What is left is a folder, which the next lab sweeps.
    with lab(LabOptions(nodes=1, pods=1), tmp_path / "lab") as client:
        assert client.status().mode == "nftables"
    eventually(lambda: not marked(tmp_path))


def test_the_command_up_status_exec_down(kernel_namespaces, tmp_path):
    folder = ["--lab", str(tmp_path / "lab")]

    def run(*words, code=0):
        done = CliRunner().invoke(main, ["lab", *words])
        assert done.exit_code == code, done.output
        return done.output

    recording = str(tmp_path / "kept.jsonl")
    run("up", *folder, "--nodes", "1", "--pods", "2")
    try:
        assert "healthy" in run("status", *folder)
        assert "already" in run("up", *folder, code=1)
        words = [
            sys.executable,
            "-m",
            "harness",
            "lab",
            "exec",
            *folder,
            "client",
            "--",
            "curl",
            "-s",
            "http://10.10.0.11:30080/",
        ]
        assert subprocess.run(words, capture_output=True, check=True).stdout.startswith(b"web-")
    finally:
        run("down", *folder, "--keep-recording", recording)
    assert not (tmp_path / "lab").exists()
    assert "harness lab up" in run("status", *folder, code=1)
    assert CliRunner().invoke(main, ["replay", recording, "--kernel", "memory"]).exit_code == 0


def test_invalid_labs_are_rejected(tmp_path):
    done = CliRunner().invoke(main, ["lab", "up", "--nodes", "0", "--lab", str(tmp_path / "lab")])
    assert done.exit_code == 2
    assert "0 nodes; 1 to 30 fit a lab" in done.output
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    done = CliRunner().invoke(main, ["lab", "up", "--lab", str(tmp_path / "mine")])
    assert done.exit_code == 1
    assert "contains other files" in done.output
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_port_inside_can_be_reached_from_outside(cluster):
    pod = pods(cluster, ready=True)[0]
    words = [sys.executable, "-m", "harness", "lab", "forward", "--lab", str(cluster.folder), pod.name, "8080"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        url = process.stdout.readline().split()[0]
        assert subprocess.run(["curl", "-s", "-m", "5", url], capture_output=True, text=True).stdout.startswith(
            pod.name
        )
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        process.stdout.close()


def test_every_kernel_is_compared_with_the_api(cluster):
    eventually(lambda: not any(judged.differences for judged in cluster.kernels_judge().values()))
    cluster.perform("engine.signal", node="node-2", number="SIGSTOP")
    changes = "flush map ip kube-proxy nodeports", "delete table ip6 kube-proxy", "add table ip kube-proxy-shadow"
    for command in changes:
        assert cluster.run("node-2", ["nft", command]).returncode == 0
    judged = cluster.kernels_judge()
    assert judged["node-1"].differences == []
    reported = judged["node-2"].differences
    assert any("node port" in line or "nodeports" in line for line in reported), reported
    assert any(line.startswith("IPv6: ") for line in reported), reported
    assert "IPv4: table kube-proxy-shadow is still there" in reported
    assert any(line.startswith("health check port 30109: nothing") for line in reported), reported
    for number in ("SIGCONT", "SIGTERM"):
        cluster.perform("engine.signal", node="node-2", number=number)
    eventually(lambda: not [n for n in cluster.status().nodes if n.name == "node-2"][0].engine_pid)
    cluster.perform("engine.start", node="node-2")
    eventually(lambda: not cluster.kernels_judge(["node-2"])["node-2"].differences)


def test_additional_services_and_slices_are_deleted_and_restored(cluster):
    for services, slices in ((2, 1), (60, 60), (3, 3)):
        cluster.perform("spares.set", services=services, slices=slices)
        eventually(lambda wanted=[services, slices]: cluster.status().spares == wanted)
        eventually(lambda: not any(judged.differences for judged in cluster.kernels_judge().values()))
    with pytest.raises(LabError, match="1 Services and 2 slices; at most 1000, slices no more"):
        cluster.perform("spares.set", services=1, slices=2)


def test_an_engine_s_usage_and_transactions_are_reported(cluster):
    usage, transactions = cluster.engine_usage(), cluster.transactions()
    assert usage.keys() == transactions.keys() == {"node-1", "node-2"}
    assert all(used.cpu_seconds > 0 and used.memory_bytes > 10 << 20 for used in usage.values())
    for families in transactions.values():
        assert families.keys() == {"IPv4", "IPv6"}
        assert all(moments == sorted(moments) for moments in families.values())
    assert all(node.engine_synced for node in cluster.status().nodes)


STRANGERS = {
    "/api/v1/nodes": {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "stranger"}},
    "/api/v1/namespaces/lab/services": {
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "lab", "name": "stranger"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    },
    "/apis/discovery.k8s.io/v1/namespaces/lab/endpointslices": {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "lab", "name": "stranger"}, "endpoints": [{"addresses": ["10.120.1.99"]}],
    },
}  # fmt: skip
"""What clients may write and the lab's own objects never are: unknown, without names, without labels."""


def test_a_lab_outlives_what_its_clients_write(cluster):
    api = f"http://{cluster.status().api.removeprefix('http://')}"
    for path, manifest in STRANGERS.items():
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: application/json"]
        made = cluster.run(None, [*command, "-d", json.dumps(manifest), api + path])
        assert made.stdout == b"201", made
    slices = f"{api}/apis/discovery.k8s.io/v1/namespaces/lab/endpointslices/stranger-0"
    eventually(lambda: '"kind"' in (found := curl(cluster, None, slices)) and "NotFound" not in found)
    for path in STRANGERS:
        cluster.run(None, ["curl", "-s", "-X", "DELETE", f"{api}{path}/stranger"])
    found = cluster.status()
    assert [node.name for node in found.nodes] == ["node-1", "node-2"]
    eventually(lambda: not any(judged.differences for judged in cluster.kernels_judge().values()))
