"""Real, unmodified clients: kubectl and the kubernetes package."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator

import pytest
import yaml
from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

from harness.apiserver import LiveApi, errors
from harness.apiserver.kubeconfig import write_kubeconfig
from harness.log import open_source
from tests.serve.conftest import DEMO, SECONDS, Served, ask

pytestmark = pytest.mark.xdist_group("served")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(served, kubeconfig): the demo recording at its start, over TLS with a token."""
    path = tmp_path_factory.mktemp("demo") / "kubeconfig"
    served = Served(DEMO, "--start-paused", "--tls", "--token", "s3cret", "--write-kubeconfig", path)
    yield served, path
    assert served.stop() == (0, "")


@pytest.fixture
def live(tmp_path):
    """(live API, kubeconfig) with TLS and token."""
    with LiveApi(tls=True, token="s3cret") as made:
        write_kubeconfig(tmp_path / "kubeconfig", made.kubeconfig())
        yield made, tmp_path / "kubeconfig"


def test_kubectl_get(demo, kubectl):
    _, path = demo
    lines = kubectl(path, "get", "svc", "-A").splitlines()
    assert lines[0].split() == ["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert len(lines) == 42
    listed = json.loads(kubectl(path, "get", "services,endpointslices,nodes", "-A", "-o", "json"))
    with open_source(DEMO) as recording:
        wanted = {json.loads(bytes(e.object))["metadata"]["uid"] for e in recording if e.t == 0 and e.type == "ADDED"}
    assert {item["metadata"]["uid"] for item in listed["items"]} == wanted
    assert "INTERNAL-IP" in kubectl(path, "get", "nodes", "-o", "wide")
    name, namespace = listed["items"][0]["metadata"]["name"], listed["items"][0]["metadata"]["namespace"]
    assert kubectl(path, "get", "svc", name, "-n", namespace, "-o", "jsonpath={.spec.clusterIP}") != ""
    assert "No resources found" not in kubectl(path, "get", "nodes", "-l", "topology.kubernetes.io/zone in (zone-a)")
    assert '"none" not found' in kubectl(path, "get", "svc", "none", code=1)
    assert "endpointslices" in kubectl(path, "api-resources") and "Server Version" in kubectl(path, "version")


def test_kubectl_does_not_prompt_for_credentials(kubectl, tmp_path):
    with LiveApi(tls=True) as made:
        write_kubeconfig(tmp_path / "kubeconfig", made.kubeconfig())
        assert kubectl(tmp_path / "kubeconfig", "get", "svc", "-A", "-o", "name") == ""


def test_kubectl_pages_through_lists(demo, kubectl):
    _, path = demo
    assert len(kubectl(path, "get", "svc", "-A", "--chunk-size=7", "--no-headers").splitlines()) == 41


def test_kubectl_describe(demo, kubectl):
    _, path = demo
    listed = json.loads(kubectl(path, "get", "svc", "-A", "-o", "json"))["items"]
    chosen = next(item for item in listed if item["spec"]["clusterIP"] != "None")
    page = kubectl(path, "describe", "svc", chosen["metadata"]["name"], "-n", chosen["metadata"]["namespace"])
    assert chosen["spec"]["clusterIP"] in page and "Events:" in page
    assert "PodCIDR:" in kubectl(path, "describe", "node", "node-0001")
    found = kubectl(path, "describe", "endpointslices", "-n", chosen["metadata"]["namespace"])
    assert "AddressType:" in found and "Conditions:" in found


def test_kubectl_is_refused_writes(demo, kubectl):
    _, path = demo
    refused = kubectl(path, "label", "node", "node-0001", "a=b", code=1)
    assert "the server does not allow this method on the requested resource" in refused


def test_kubectl_watch(serve, tmp_path, kubectl):
    path = tmp_path / "kubeconfig"
    served = serve(DEMO, "--start-paused", "--speed", "max", "--write-kubeconfig", path)
    with open_source(DEMO) as recording:
        recorded = [e for e in recording if e.resource == "endpointslices" and e.type != "BOOKMARK"]
    wanted, listed = [(e.type, name_of(e)) for e in recorded], sum(e.t == 0 for e in recorded)
    command = ["kubectl", "--kubeconfig", str(path), "get", "endpointslices", "-A", "-w", "--output-watch-events"]
    with subprocess.Popen([*command, "-o", "json"], stdout=subprocess.PIPE, text=True) as process:
        limit = threading.Timer(SECONDS, process.kill)
        limit.start()
        events = events_of(process.stdout)
        initial = [next(events) for _ in range(listed)]
        served.control("resume")
        later = [next(events) for _ in wanted[listed:]]
        limit.cancel()
        process.kill()
    assert later == wanted[listed:] and sorted(initial) == sorted(wanted[:listed])


def name_of(event) -> str:
    """The name of a recorded event's object."""
    return json.loads(bytes(event.object))["metadata"]["name"]


def events_of(lines) -> Iterator[tuple[str, str]]:
    """Type and name of each event that kubectl prints, however many lines one takes."""
    text = ""
    for line in lines:
        text += line
        try:
            event = json.loads(text)
        except ValueError:
            continue
        yield event["type"], event["object"]["metadata"]["name"]
        text = ""


def test_kubectl_applies_a_list(live, kubectl, tmp_path):
    made, path = live
    file = tmp_path / "list.json"
    services = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}
        for name in ("a", "b")
    ]
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": services}))
    assert kubectl(path, "apply", "-f", str(file)) == "service/a created\nservice/b created\n"
    assert kubectl(path, "apply", "-f", str(file)) == "service/a unchanged\nservice/b unchanged\n"
    kubectl(path, "delete", "-f", str(file))
    with pytest.raises(errors.StatusError, match="not found"):
        made.store.get("services", "a", "default")


def test_kubectl_writes(live, kubectl, tmp_path):
    made, path = live
    for node in ("n1", "n2"):
        made.store.apply("nodes", {"metadata": {"name": node}})
    kubectl(path, "create", "namespace", "shop")
    kubectl(path, "create", "service", "clusterip", "web", "--tcp=80:8080", "-n", "shop")
    assert made.store.get("services", "web", "shop")["spec"]["ports"] == [
        {"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}
    ]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}}
    pod["spec"] = {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}
    file = tmp_path / "pod.json"
    for label in ("a", "b"):
        pod["metadata"]["labels"] = {"app": label}
        file.write_text(json.dumps(pod))
        kubectl(path, "apply", "--validate=false", "-f", str(file))
    assert made.store.get("pods", "p", "shop")["metadata"]["labels"] == {"app": "b"}
    kubectl(path, "label", "pod", "p", "-n", "shop", "tier=front")
    kubectl(path, "patch", "svc", "web", "-n", "shop", "-p", '{"spec":{"ports":[{"port":443,"targetPort":8443}]}}')
    assert [port["port"] for port in made.store.get("services", "web", "shop")["spec"]["ports"]] == [80, 443]
    assert "80/TCP" in kubectl(path, "get", "svc", "web", "-n", "shop")
    kubectl(path, "cordon", "n2")
    assert made.store.get("nodes", "n2")["spec"]["unschedulable"] is True
    kubectl(path, "delete", "pod", "p", "-n", "shop", "--wait=false")
    assert made.store.get("pods", "p", "shop")["metadata"]["deletionGracePeriodSeconds"] == 30
    kubectl(path, "delete", "pod", "p", "-n", "shop", "--grace-period=0", "--force")
    kubectl(path, "delete", "svc", "web", "-n", "shop")
    assert made.store.list("pods") == made.store.list("services") == []


def test_the_python_clients_list_and_watch(serve, tmp_path):
    path = tmp_path / "kubeconfig"
    served = serve(DEMO, "--start-paused", "--speed", "max", "--tls", "--token", "s3cret", "--write-kubeconfig", path)
    with config.new_client_from_config(str(path)) as api:
        core, slices = client.CoreV1Api(api), client.DiscoveryV1Api(api)
        assert len(core.list_service_for_all_namespaces().items) == 41
        assert core.read_node("node-0001").metadata.name == "node-0001"
        page = core.list_service_for_all_namespaces(limit=10)
        assert len(page.items) == 10 and page.metadata.remaining_item_count == 31
        listed = slices.list_endpoint_slice_for_all_namespaces()
        with open_source(DEMO) as recording:
            wanted = [e for e in recording if e.t > 0 and e.resource == "endpointslices"]
        ask(served.url + "/control/resume", "POST", tls=context_of(path), Authorization="Bearer s3cret")
        got, watcher, since = [], watch.Watch(), listed.metadata.resource_version
        list_slices = slices.list_endpoint_slice_for_all_namespaces
        for event in watcher.stream(list_slices, resource_version=since, timeout_seconds=SECONDS):
            got.append((event["type"], event["raw_object"]))
            if len(got) == len(wanted):
                watcher.stop()
        assert got == [(e.type, json.loads(bytes(e.object))) for e in wanted]
        with pytest.raises(ApiException) as gone:
            list(
                watch.Watch().stream(
                    slices.list_endpoint_slice_for_all_namespaces, resource_version="1", timeout_seconds=5
                )
            )
        assert gone.value.status == 410
        with pytest.raises(ApiException) as refused:
            core.delete_node("node-0001")
        assert refused.value.status == 405


def context_of(path) -> ssl.SSLContext:
    """Trust in what the kubeconfig trusts."""
    authority = yaml.safe_load(path.read_text())["clusters"][0]["cluster"]["certificate-authority-data"]
    return ssl.create_default_context(cadata=base64.b64decode(authority).decode())


def test_the_python_clients_writes(live):
    _, path = live
    with config.new_client_from_config(str(path)) as api:
        core = client.CoreV1Api(api)
        meta = client.V1ObjectMeta(name="p", namespace="shop")
        spec = client.V1PodSpec(node_name="n1", containers=[client.V1Container(name="c", image="i")])
        made = core.create_namespaced_pod("shop", client.V1Pod(metadata=meta, spec=spec))
        assert made.metadata.uid and made.metadata.generation == 1
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        core.patch_namespaced_pod_status("p", "shop", ready)
        assert core.read_namespaced_pod("p", "shop").status.conditions[0].type == "Ready"
        eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name="p", namespace="shop"))
        core.create_namespaced_pod_eviction("p", "shop", eviction)
        ending = core.read_namespaced_pod("p", "shop")
        assert ending.metadata.deletion_grace_period_seconds == 30
        core.delete_namespaced_pod("p", "shop", grace_period_seconds=0)
        assert core.list_namespaced_pod("shop").items == []
        services = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="Service")
        services.create({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}, namespace="shop")
        assert services.get(name="web", namespace="shop").spec.ports[0].port == 80
