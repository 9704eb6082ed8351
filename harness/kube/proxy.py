"""A service proxy as a program: its command line with placeholders, and its KubeProxyConfiguration."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

PLACES = ("kubeconfig", "api", "node", "config", "mode")
"""Placeholders `{...}` in a command; other braces are kept."""
METRICS_PORT, HEALTH_PORT = 10249, 10256
AT_ONCE = "0.001s"
"""minSyncPeriod of a measured proxy: zero would mean the default of one second."""


class CommandError(ValueError):
    """A command that cannot be started; the message names it and the expected form."""


class Command(NamedTuple):
    """A proxy's name in tables, and its command line as words."""

    name: str
    words: tuple[str, ...]

    def filled(self, **values: str) -> list[str]:
        """The words with all placeholders filled in."""
        found = []
        for word in self.words:
            for place, value in values.items():
                word = word.replace(f"{{{place}}}", value)
            found.append(word)
        return found

    @property
    def takes_modes(self) -> bool:
        """Whether its placeholders contain the mode."""
        return any(f"{{{place}}}" in word for place in ("mode", "config") for word in self.words)


OURS = Command(
    "proxy-engine", (sys.executable, "-m", "engine.server.main", "--config={config}", "--hostname-override={node}")
)
"""The engine, started like any other proxy."""


def command(name: str, text: str) -> Command:
    """A command line split like in a shell; CommandError if the program does not exist."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise CommandError(f"{name}: {text!r} is not a valid command line: {error}") from None
    if not words:
        raise CommandError(f"{name}: a command is needed, such as {name}='kube-proxy --config={{config}}'")
    if not shutil.which(words[0]):
        why = "is not an executable file" if os.path.exists(words[0]) else "not found; give its path"
        raise CommandError(f"{name}: program {words[0]!r} {why}")
    return Command(name, words)


def commands(texts: Iterable[str]) -> list[Command]:
    """Commands of the form NAME=COMMAND; CommandError for invalid ones or duplicate names."""
    found: dict[str, Command] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        if not equals or not name or not name.replace("-", "").replace(".", "").replace("_", "").isalnum():
            raise CommandError(f"{text!r}: NAME=COMMAND is needed, such as kp='kube-proxy --config={{config}}'")
        if name in found or name == OURS.name:
            raise CommandError(f"{name}: duplicate name; each proxy needs its own")
        found[name] = command(name, rest)
    return list(found.values())


def configuration(
    mode: str,
    kubeconfig: str,
    sync: Mapping[str, str],
    blocks: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A KubeProxyConfiguration; `sync` goes to the block of every mode, `blocks` to those named, `more` are fields."""
    limits = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        # The API speaks only JSON, which kube-proxy must be configured for.
        "clientConnection": {
            "kubeconfig": kubeconfig,
            "acceptContentTypes": "application/json",
            "contentType": "application/json",
        },
        "mode": mode,
        **{name: {**sync, **(blocks or {}).get(name, {})} for name in ("iptables", "ipvs", "nftables")},
        **more,
        # Limits of the whole kernel cannot be written from a namespace.
        "conntrack": limits | more.get("conntrack", {}),
    }
