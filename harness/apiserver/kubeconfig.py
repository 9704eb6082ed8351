"""A kubeconfig for the server, with its certificate and token."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from harness.output import whole_file

NAME = "harness"
ANY_TOKEN = "any"
"""For a TLS server without a token: kubectl prompts for a user name if the file has no credentials."""


def kubeconfig(url: str, authority: bytes | None, token: str | None) -> dict[str, Any]:
    """The Config as a dict."""
    cluster: dict[str, Any] = {"server": url}
    if authority:
        token = token or ANY_TOKEN
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    context = {"cluster": NAME, "user": NAME, "namespace": "default"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [{"name": NAME, "user": {"token": token} if token else {}}],
        "contexts": [{"name": NAME, "context": context}],
        "current-context": NAME,
    }


def write_kubeconfig(path: str | Path, config: dict[str, Any]) -> None:
    """Write the file completely or not at all, readable by its owner only, as it may contain a token."""
    with whole_file(path, 0o600) as out:
        yaml.safe_dump(config, out, sort_keys=False, encoding="utf-8")
