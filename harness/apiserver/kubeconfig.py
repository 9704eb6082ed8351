"""A kubeconfig for the server, so that any client finds it with its certificate and token."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import yaml

NAME = "harness"


def kubeconfig(url: str, authority: bytes | None, token: str | None) -> dict[str, Any]:
    """The Config as a value."""
    cluster: dict[str, Any] = {"server": url}
    if authority:
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
    """The whole file or nothing, readable by its owner only: it may hold a token."""
    partial = Path(f"{path}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as out:
        yaml.safe_dump(config, out, sort_keys=False)
    os.replace(partial, path)
