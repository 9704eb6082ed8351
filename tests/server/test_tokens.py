"""Bearer tokens in files that expire: read again as by client-go, and rejected requests are visible."""

from __future__ import annotations

import math

import pytest
import yaml
from kubernetes.client.configuration import Configuration

from engine.server.api import token
from engine.server.api.client import load_configuration
from engine.server.api.token import TokenFile
from engine.server.http.health import Health
from harness.conformance.corpus.clusters import end, node, service, slice_
from tests.server.lab import HEALTHZ, METRICS, TOKEN, eventually

OBJECTS = [node(), service(), slice_(end("10.180.0.1", "n1"))]


def sent(configuration: Configuration) -> str:
    """The header of the next request."""
    return configuration.auth_settings()["BearerToken"]["value"]


def with_token_file(kubeconfig: dict, name: str) -> dict:
    """The same, its user's token in a file."""
    (user,) = kubeconfig["users"]
    return {**kubeconfig, "users": [{"name": user["name"], "user": {"tokenFile": name}}]}


def test_a_token_is_used_for_a_minute_and_not_once_it_was_refused(tmp_path):
    file, now = tmp_path / "token", [0.0]
    file.write_text("one\n")
    made, configuration = TokenFile(file, lambda: now[0]), Configuration()
    configuration.refresh_api_key_hook = made
    made(configuration)
    file.write_text("two\n")
    now[0] = 49.0
    assert sent(configuration) == "Bearer one"
    now[0] = 51.0
    assert sent(configuration) == "Bearer two"
    file.write_text("three")
    assert sent(configuration) == "Bearer two"
    token.note_refusal(configuration)
    assert sent(configuration) == "Bearer three"
    for unreadable in (file.unlink, lambda: file.write_text("")):
        unreadable()
        token.note_refusal(configuration)
        assert sent(configuration) == "Bearer three", "the last one goes on"
    file.write_text("four")
    now[0] = math.inf
    assert sent(configuration) == "Bearer four"
    with pytest.raises(FileNotFoundError):
        TokenFile(tmp_path / "none")


def test_the_source_of_a_kubeconfigs_token(tmp_path):
    """The current context's user's, relative to the file; of several files the first that knows a name."""
    (tmp_path / "sub").mkdir()
    for name in ("sub/mine", "other"):
        (tmp_path / name).write_text(name)
    cluster = {"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}]}
    contexts = {"contexts": [{"name": n, "context": {"cluster": "c", "user": n}} for n in ("a", "b", "plain")]}
    users = [{"name": "a", "user": {"tokenFile": "mine"}}, {"name": "plain", "user": {"token": "fixed"}}]
    first, second = tmp_path / "sub" / "config", tmp_path / "config"
    first.write_text(yaml.safe_dump(cluster | contexts | {"current-context": "a", "users": users}))
    more = [{"name": "b", "user": {"tokenFile": str(tmp_path / "other")}}, {"name": "a", "user": {"token": "unseen"}}]
    second.write_text(yaml.safe_dump({"current-context": "b", "users": more}))
    assert sent(load_configuration(str(first), "")) == "Bearer sub/mine"
    both = f"{first}:{second}"
    for context, wanted in ((None, "sub/mine"), ("b", "other")):
        configuration = Configuration()
        token.follow(configuration, both, context)
        assert sent(configuration) == f"Bearer {wanted}"
    plain = Configuration()
    token.follow(plain, both, "plain")
    assert plain.refresh_api_key_hook is None


def test_an_api_that_refuses_shows_in_health_when_it_lasts():
    """As long as an update may wait; one that does not answer at all does not (INV-02)."""
    now = [100.0]
    health = Health(lambda: now[0], 30.0, (4,))
    health.answered(401)
    now[0] += 59
    health.answered(401)
    assert health.authorized()
    now[0] += 2
    assert not health.authorized() and health.healthy()
    health.answered(403)
    assert health.authorized(), "who is refused a resource is known"


def test_a_token_that_was_renewed_and_one_that_was_not(lab):
    """401 shows in health and metrics while it lasts; the renewed token is found without a restart."""
    lab.record(OBJECTS, [("MODIFIED", slice_(end("10.180.2.1")))])
    api = lab.serve("--token", "expired")
    file = lab.folder / "token"
    file.write_text("expired\n")
    lab.kubeconfig.write_text(yaml.safe_dump(with_token_file(yaml.safe_load(lab.kubeconfig.read_text()), "token")))
    daemon = lab.daemon(periods={"syncPeriod": "1s"})
    daemon.says('"Started"')
    kubeconfig = lab.kubeconfig.read_text()
    assert api.end() == 0
    lab.serve()
    lab.kubeconfig.write_text(kubeconfig)
    answer = eventually(lambda: lab.says(HEALTHZ, "/healthz", 503), "the refusal in /healthz")
    assert answer.json()["apiServer"] == "401 Unauthorized"
    assert lab.says(HEALTHZ, "/livez", 503)
    counted = lab.metrics()
    assert counted["kubeproxy_api_unauthorized"] == 1
    assert any('code="401"' in name for name in counted)
    assert lab.differences() == [], "rules stay"
    file.write_text(f"{TOKEN}\n")
    lab.step()
    lab.converges(60)
    assert lab.says(HEALTHZ, "/healthz", 200)
    assert lab.http(METRICS, "/metrics") and lab.metrics()["kubeproxy_api_unauthorized"] == 0
    assert daemon.count("Started") == 1
