"""The engine's ClusterRole against a running engine's requests to an API server, from the log of requests."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from harness.conformance.corpus.clusters import end, node, service, slice_
from harness.kube.resources import RECORDED
from tests.server.conftest import certificate, lab  # noqa: F401 (fixtures)
from tests.server.lab import eventually

RBAC = Path(__file__).resolve().parents[2] / "deploy" / "engine" / "rbac.yaml"
PATH = re.compile(r"/(?:api|apis/(?P<group>[^/]+))/v1(?:/namespaces/[^/]+)?/(?P<resource>\w+)(?P<name>/[^/?]+)?$")
Right = tuple[str, str, str]
"""Verb, API group, resource."""


def asked(log: str) -> set[Right]:
    """The permissions that the requests in a log need."""
    found = set()
    for method, url, query in re.findall(r'"Response".* verb="(\w+)" url="([^"]+)" query="([^"]*)"', log):
        path = PATH.search(url)
        assert path, url
        verb = {"POST": "create"}.get(method) or ("watch" if "'watch'" in query else "get" if path["name"] else "list")
        found.add((verb, path["group"] or "", path["resource"]))
    return found


def granted(rbac: Path = RBAC) -> set[Right]:
    """The permissions that the ClusterRole grants."""
    role = next(each for each in yaml.safe_load_all(rbac.read_text()) if each["kind"] == "ClusterRole")
    return {
        (verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_engines_role_grants_exactly_what_it_uses(lab):  # noqa: F811 (the fixture)
    """Lists, watches, a Node, Events; every kind of request has been sent once it runs."""
    daemon = lab.start([node(), service(), slice_(end("10.180.0.1"))], logging={"verbosity": 6})
    eventually(lambda: asked(daemon.text()) >= granted() or daemon.popen.poll() is not None, "every right in use")
    assert asked(daemon.text()) == granted()


def test_the_recorders_role_grants_exactly_what_it_uses():
    """Its lists and watches, and the requests for its header."""
    asked_for = {("list", "networking.k8s.io", "servicecidrs")}
    for kind in RECORDED:
        asked_for |= {(verb, kind.group, kind.resource) for verb in ("list", "watch")}
    assert granted(RBAC.parents[1] / "recorder" / "rbac.yaml") == asked_for
