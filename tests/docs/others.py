"""Lines of README.md and docs/*.md with commands of other programs, and which of them no test runs, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .commands import PAGES

PROGRAMS = (
    "kubectl", "curl", "jq", "python", ".venv/bin/python", "pip", "uv", "uvx", "docker", "dask", "nft", "iptables",
    "iptables-save", "ip6tables", "ipvsadm", "ipset", "ip", "sudo", "aws", "check-jsonschema", "cd", "cat", ".",
)  # fmt: skip
_LINE = re.compile(rf"^ {{4,}}(?:\$ )?((?:{'|'.join(map(re.escape, PROGRAMS))}) .*)$", re.M)
_INSTALLS = "installs: tests/firstday"
_DEPLOYS = "needs a cluster: tests/deploy"
_ON_A_NODE = "looks at a node's kernel: tests/server"
NOT_RUN = {
    "uv ": _INSTALLS, "uvx ": _INSTALLS, "pip install": _INSTALLS, "sudo apt-get": _INSTALLS, ". .venv": _INSTALLS,
    "docker ": "needs a registry: tests/deploy", "cd deploy": _DEPLOYS, "aws ": "needs an account: tests/deploy",
    "kubectl apply": _DEPLOYS, "kubectl patch": _DEPLOYS, "kubectl label": _DEPLOYS, "kubectl create": _DEPLOYS,
    "kubectl rollout": _DEPLOYS, "kubectl set": _DEPLOYS, "kubectl describe": _DEPLOYS, "kubectl logs": _DEPLOYS,
    "kubectl get daemonset": _DEPLOYS, "kubectl get configmap": _DEPLOYS, "kubectl get pod": _DEPLOYS,
    "kubectl get events": _DEPLOYS, "kubectl get endpointslices -l": "needs a Service called web: tests/serve",
    "127.0.0.1:10": "asks a node's proxy: tests/server",
    "nft ": _ON_A_NODE, "iptables": _ON_A_NODE, "ip6tables": _ON_A_NODE, "ipvsadm": _ON_A_NODE, "ipset": _ON_A_NODE,
    "ip address": _ON_A_NODE, "cat gate": "needs a run: tests/chaos_report",
    "dask ": "starts processes on several machines: tests/fleet",
    "check-jsonschema": "is not installed: tests/docs/test_schemas.py",
    "benchmarks": "measures for minutes: benchmarks", "tests.mutants -": "runs gates for hours: tests/mutants",
    "tests.chaos.gates": "runs gates for minutes: tests/chaos",
    "tests.mutants mq": "runs gates for minutes: tests/mutants", "tests.check": "takes minutes: tests/check",
}  # fmt: skip
"""By a part of their text; who checks it instead."""
RUN_NEVERTHELESS = "--list"


class Line(NamedTuple):
    """One line."""

    page: str
    number: int
    text: str

    @property
    def not_run(self) -> str | None:
        """Why it is not run."""
        if RUN_NEVERTHELESS in self.text:
            return None
        return next((reason for part, reason in NOT_RUN.items() if part in self.text), None)


def lines() -> Iterator[Line]:
    """All of them, in order."""
    for page in PAGES:
        text = page.read_text()
        for found in _LINE.finditer(text):
            yield Line(page.name, text.count("\n", 0, found.start()) + 1, found[1])
