"""dryRun=All answers as the write would, refusals included, and writes nothing."""

from __future__ import annotations

import json

import pytest

from tests.serve.conftest import ask

SERVICE = {"metadata": {"name": "web", "namespace": "shop", "labels": {"a": "b"}}, "spec": {"ports": [{"port": 80}]}}
POD = {"metadata": {"name": "p", "namespace": "shop"}, "spec": {"nodeName": "n", "containers": [{"name": "c"}]}}
SHOP = "/api/v1/namespaces/shop"
MERGE = "application/merge-patch+json"
DRY = {"dryRun": ["All"]}

WRITES = {
    "create": ("POST", f"{SHOP}/services?dryRun=All", {"metadata": {"name": "new"}}, 201),
    "create what exists": ("POST", f"{SHOP}/services?dryRun=All", SERVICE, 409),
    "create without a name": ("POST", f"{SHOP}/services?dryRun=All", {"metadata": {}}, 422),
    "update": ("PUT", f"{SHOP}/services/web?dryRun=All", SERVICE | {"spec": {"ports": []}}, 200),
    "update of nothing": ("PUT", f"{SHOP}/services/none?dryRun=All", {"metadata": {"name": "none"}}, 404),
    "update of status": ("PUT", f"{SHOP}/services/web/status?dryRun=All", SERVICE | {"status": {"x": 1}}, 200),
    "patch": ("PATCH", f"{SHOP}/services/web?dryRun=All", {"spec": {"type": "NodePort"}}, 200),
    "patch of nothing": ("PATCH", f"{SHOP}/services/none?dryRun=All", {"spec": {}}, 404),
    "delete": ("DELETE", f"{SHOP}/services/web?dryRun=All", None, 200),
    "delete, in the body": ("DELETE", f"{SHOP}/services/web", DRY, 200),
    "delete of nothing": ("DELETE", f"{SHOP}/services/none?dryRun=All", None, 404),
    "delete of all": ("DELETE", f"{SHOP}/services?dryRun=All", None, 200),
    "delete of all, in the body": ("DELETE", f"{SHOP}/services", DRY, 200),
    "delete of a pod": ("DELETE", f"{SHOP}/pods/p?gracePeriodSeconds=0", DRY, 200),
    "eviction": ("POST", f"{SHOP}/pods/p/eviction?dryRun=All", {}, 201),
    "eviction, in the body": ("POST", f"{SHOP}/pods/p/eviction", {"deleteOptions": DRY}, 201),
    "unknown": ("DELETE", f"{SHOP}/services/web?dryRun=Some", None, 400),
    "unknown, in the body": ("DELETE", f"{SHOP}/services/web", {"dryRun": ["Some"]}, 400),
}


@pytest.mark.parametrize("method, path, body, code", WRITES.values(), ids=WRITES.keys())
def test_nothing_is_written(api, method, path, body, code):
    api.store.apply("services", SERVICE)
    api.store.apply("pods", POD)
    before = {name: [found.raw for found in c.snapshot().objects] for name, c in api.store.collections.items()}
    revision, changes = api.store.revision, []
    api.store.subscribe(changes.append)
    answer = ask(api.url + path, method, body, Content_Type=MERGE if method == "PATCH" else "application/json")
    assert answer.code == code, answer
    after = {name: [found.raw for found in c.snapshot().objects] for name, c in api.store.collections.items()}
    assert (after, api.store.revision, changes) == (before, revision, [])
    really = path.replace("?dryRun=All", "")
    if code < 400 and "dryRun" not in json.dumps(body):
        again = ask(api.url + really, method, body, Content_Type=MERGE if method == "PATCH" else "application/json")
        assert again.code == code and again.body.get("kind") == answer.body.get("kind")
        assert again.body.get("spec") == answer.body.get("spec") and changes


def test_a_dry_run_of_a_read_only_server_is_refused_as_the_write_is(serve):
    from tests.serve.conftest import DEMO

    served = serve(DEMO, "--start-paused")
    assert ask(f"{served.url}{SHOP}/services?dryRun=All", "POST", SERVICE).code == 405


def test_kubectl_dry_runs(api, kubectl, tmp_path):
    from harness.apiserver.kubeconfig import write_kubeconfig

    api.store.apply("services", SERVICE)
    before = api.store.list("services")
    write_kubeconfig(tmp_path / "kubeconfig", api.kubeconfig())
    page = kubectl(tmp_path / "kubeconfig", "delete", "svc", "web", "-n", "shop", "--dry-run=server")
    assert "deleted (server dry run)" in page
    new = ("-n", "shop", "--tcp=80")
    assert "created (server dry run)" in kubectl(
        tmp_path / "kubeconfig", "create", "service", "clusterip", "new", *new, "--dry-run=server"
    )
    refused = kubectl(tmp_path / "kubeconfig", "create", "service", "clusterip", "web", *new, code=1)
    assert 'services "web" already exists' in refused
    assert api.store.list("services") == before
