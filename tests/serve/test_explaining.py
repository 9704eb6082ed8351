"""Requests about the API itself: fields of the kinds, permissions, version."""

from __future__ import annotations

import re

import pytest

from harness.apiserver.kubeconfig import write_kubeconfig
from harness.apiserver.openapi import GVK, documents
from harness.kube.resources import KINDS
from tests.serve import fields
from tests.serve.conftest import DEMO, ask

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubject{}reviews"


def test_the_fields_are_those_of_the_kubernetes_client():
    assert fields.FILE.read_text() == fields.text(), "make it by python -m tests.serve.fields"


def test_every_kind_has_a_schema_that_is_whole():
    made = documents("v1.2.3")
    for kind in KINDS:
        document = made[f"/openapi/v3{kind.root}"]
        schemas = document["components"]["schemas"]
        (schema,) = [each for each in schemas.values() if {"kind": kind.kind} | _gv(kind) in each.get(GVK, [])]
        assert {"apiVersion", "kind", "metadata"} <= schema["properties"].keys()
        named = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
        assert named <= schemas.keys() and document["info"]["version"] == "v1.2.3"
    ports = made["/openapi/v3/api/v1"]["components"]["schemas"]["V1ServiceSpec"]["properties"]["ports"]
    assert ports["x-kubernetes-patch-merge-key"] == "port", "as the server merges them"


def _gv(kind) -> dict[str, str]:
    return {"group": kind.group, "version": kind.version}


@pytest.fixture
def known(api, tmp_path):
    """The kubeconfig of a live API."""
    write_kubeconfig(tmp_path / "kubeconfig", api.kubeconfig())
    return tmp_path / "kubeconfig"


def test_kubectl_explain(known, kubectl):
    page = kubectl(known, "explain", "service.spec.ports")
    assert "KIND:       Service" in page and re.search(r"port\s+<integer> -required-", page)
    assert re.search(r"targetPort\s", page)
    for kind in ("endpointslices", "nodes", "pods.spec.containers", "events", "deployments.spec", "leases.spec"):
        assert "FIELDS:" in kubectl(known, "explain", kind)
    assert "externalTrafficPolicy\t<string>" in kubectl(known, "explain", "svc", "--recursive")


def test_kubectl_applies_and_removes_what_the_manifest_no_longer_has(api, known, kubectl, tmp_path):
    """Its three-way patch goes by the schemas' merge keys."""
    head = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.0.0.1, ports: [%s]}\n"
    file = tmp_path / "web.yaml"
    for ports in ("{name: a, port: 80}, {name: b, port: 443}", "{name: a, port: 80, protocol: UDP}"):
        file.write_text(head % ports)
        kubectl(known, "apply", "-f", str(file))
    assert api.store.get("services", "web", "default")["spec"]["ports"] == [
        {"name": "a", "port": 80, "protocol": "UDP"}
    ]


def test_kubectl_auth(known, kubectl, serve, tmp_path):
    assert kubectl(known, "auth", "can-i", "delete", "services", "-n", "shop") == "yes\n"
    assert kubectl(known, "auth", "can-i", "get", "/healthz") == "yes\n"
    assert "pods/eviction" in kubectl(known, "auth", "can-i", "--list")
    reading = tmp_path / "reading"
    served = serve(DEMO, "--start-paused", "--write-kubeconfig", reading)
    assert kubectl(reading, "auth", "can-i", "watch", "endpointslices.discovery.k8s.io") == "yes\n"
    spec = {"resourceAttributes": {"verb": "delete", "resource": "services", "namespace": "shop"}}
    answer = ask(served.url + REVIEWS.format("access"), "POST", {"spec": spec})
    assert answer.code == 201 and answer.body["status"] == {
        "allowed": False, "reason": "this server does not delete services",
    }  # fmt: skip
    spec = {"resourceAttributes": {"verb": "create", "resource": "events"}}
    assert ask(served.url + REVIEWS.format("access"), "POST", {"spec": spec}).body["status"] == {"allowed": True}
    spec = {"resourceAttributes": {"verb": "get", "resource": "gadgets"}}
    assert not ask(served.url + REVIEWS.format("access"), "POST", {"spec": spec}).body["status"]["allowed"]
    for body in ({}, {"spec": {}}, {"spec": 1}, [], {"kind": "Pod", "spec": {}}):
        assert ask(served.url + REVIEWS.format("access"), "POST", body).code == 400


@pytest.mark.parametrize(
    "version, minor", [("v1.35.1", "35"), ("v1.30.4-eks-a18cd3a", "30"), ("v1.31+", "31+"), ("", "34")]
)
def test_the_version_is_the_recordings(serve, tmp_path, version, minor):
    head, rest = DEMO.read_text().split("\n", 1)
    source = tmp_path / "a.jsonl"
    source.write_text(head.replace('"cluster":{', f'"cluster":{{"version":"{version}",') + "\n" + rest)
    said = ask(serve(source, "--start-paused").url + "/version").body
    assert said["minor"] == minor and said["gitVersion"] == (version or "v1.34.0+harness") and said["major"] == "1"
