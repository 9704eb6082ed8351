"""Credentials are read by the `kubernetes` client, of which the daemon imports no more than that."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import engine.server.runtime.run
from engine.server.api import access

heavy = ("kubernetes", "requests", "requests_oauthlib", "oauthlib.oauth2")
assert not [name for name in heavy if name in sys.modules], "imported too much, or left stand-ins"
configuration = access.Configuration()
try:
    access.load_kube_config("/nonexistent", client_configuration=configuration)
except access.ConfigException:
    pass

import kubernetes
import oauthlib.oauth2
import requests_oauthlib

assert kubernetes.client.V1Pod and kubernetes.client.ApiClient and kubernetes.watch.Watch
assert isinstance(access._session("client"), requests_oauthlib.OAuth2Session)
reader = access.load_kube_config.__globals__
assert reader["oauthlib"].oauth2.rfc6749.errors.InvalidClientIdError
"""


def test_the_daemon_imports_no_models_and_leaves_the_client_whole():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_an_imported_client_is_shared():
    program = (
        "import kubernetes, engine.server.api.access as a; assert a.Configuration is kubernetes.client.Configuration"
    )
    subprocess.run([sys.executable, "-c", program], timeout=120, check=True)
