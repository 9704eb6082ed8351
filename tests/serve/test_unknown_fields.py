"""Fields that a kind does not have, and fieldValidation, in the words of kube-apiserver."""

from __future__ import annotations

import copy
import json
import urllib.request

import pytest

from tests.serve.conftest import SECONDS, ask

WEB = {
    "metadata": {"name": "web", "lables": {"app": "web"}},
    "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}, {"port": 81, "name": "b", "prot": "UDP"}], "sesion": "x"},
}
UNKNOWN = [f'unknown field "{path}"' for path in ("metadata.lables", "spec.ports[1].prot", "spec.sesion")]
KNOWN = {"metadata": {"name": "web"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}}


@pytest.fixture
def services(api):
    """The address of the Services."""
    return f"{api.url}/api/v1/namespaces/default/services"


def _sent(url: str, method: str, body: object, content: str = "application/json") -> list[str]:
    """The warnings in the answer to a write that succeeds."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": content}, method=method)
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        return reply.headers.get_all("Warning", [])


def _named(manifest: dict) -> dict:
    """With the ports that a Service of two ports needs."""
    made = copy.deepcopy(manifest)
    made["spec"]["ports"][0]["name"] = "a"
    return made


@pytest.mark.parametrize("query", ["", "?fieldValidation=Warn", "?fieldValidation="])
def test_by_default_unknown_fields_are_warnings(services, query):
    assert _sent(services + query, "POST", _named(WEB)) == [f"299 - {json.dumps(text)}" for text in UNKNOWN]
    assert ask(f"{services}/web").code == 200


def test_ignored_where_the_client_says_so(services):
    assert _sent(f"{services}?fieldValidation=Ignore", "POST", _named(WEB)) == []


def test_strict_refuses_and_stores_nothing(services):
    answer = ask(f"{services}?fieldValidation=Strict", "POST", _named(WEB))
    assert answer.code == 400 and answer.body["reason"] == "BadRequest"
    text = 'Service in version "v1" cannot be handled as a Service: strict decoding error: '
    assert answer.body["message"] == text + ", ".join(UNKNOWN)
    assert ask(f"{services}/web").code == 404
    assert ask(f"{services}?fieldValidation=Strict", "POST", KNOWN).code == 201
    assert ask(f"{services}/web?fieldValidation=Strict", "PUT", _named(WEB)).code == 400


def test_a_directive_that_does_not_exist(services):
    answer = ask(f"{services}?fieldValidation=strict", "POST", KNOWN)
    assert answer.code == 400 and '"Ignore", "Warn", "Strict"' in answer.body["message"]


@pytest.mark.parametrize("content", ["application/merge-patch+json", "application/strategic-merge-patch+json"])
def test_a_patch_answers_for_what_it_adds(services, content):
    """Not for what the object has from a recording of a newer cluster."""
    ask(services, "POST", KNOWN | {"future": 1})
    wrong, right = {"spec": {"sesion": "x"}}, {"metadata": {"labels": {"a": "b"}}}
    answer = ask(f"{services}/web?fieldValidation=Strict", "PATCH", wrong, Content_Type=content)
    assert answer.code == 422 and 'strict decoding error: unknown field "spec.sesion"' in answer.body["message"]
    assert "sesion" not in ask(f"{services}/web").body["spec"]
    assert ask(f"{services}/web?fieldValidation=Strict", "PATCH", right, Content_Type=content).code == 200
    assert _sent(f"{services}/web", "PATCH", wrong, content) == ['299 - "unknown field \\"spec.sesion\\""']


def test_many_unknown_fields_fit_into_the_headers(services):
    """urllib accepts a hundred headers."""
    assert len(_sent(services, "POST", KNOWN | {f"x{number}": 1 for number in range(500)})) == 50


def test_free_keys_and_values_of_a_wrong_type_are_not_unknown_fields(services):
    free = KNOWN | {"metadata": {"name": "web", "labels": {"spec": "a"}, "annotations": {"x.y/z": "1"}}}
    assert _sent(services, "POST", free) == []
    wrong = {"metadata": {"name": "other"}, "spec": ["x"]}
    assert ask(f"{services}?fieldValidation=Strict", "POST", wrong).code == 400
