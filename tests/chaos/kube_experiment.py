"""Experiments on the test cluster's Service, and the command that runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.chaos.stand import NAMESPACE, SERVICE, Cluster

HARNESS = Path(sys.executable).with_name("harness")
EXEC = {"unready": ["fail"], "ready": ["pass"], "kill": ["kill"], "stop": ["fail"], "continue": ["pass"]}


def experiment(*faults: dict[str, Any], objectives: dict | None = None, **kube: Any) -> dict[str, Any]:
    """An experiment on the Service, under a small load."""
    activities = [
        {
            "type": "action",
            "name": fault["fault"],
            "provider": {"type": "python", "module": "chaos.actions", "func": "inject", "arguments": fault},
        }
        for fault in faults
    ]
    extension = {
        "name": "kube-proxy-harness",
        "load": {"arrivals_per_second": 40, "warm_up_seconds": 0.5, "cool_down_seconds": 0.5},
        "objectives": objectives or {"error_budget_percent": 1},
        "kube": {"namespace": NAMESPACE, "service": SERVICE, **kube},
    }
    probes = [
        {
            "type": "probe",
            "name": name,
            "tolerance": True,
            "provider": {"type": "python", "module": "chaos.probes", "func": name},
        }
        for name in ("all_pods_ready", "nodes_ready", "engines_healthy", "kernels_up_to_date")
    ]
    return {
        "title": "t",
        "description": "d",
        "controls": [{"name": "kube-proxy-harness", "provider": {"type": "python", "module": "chaos.control"}}],
        "steady-state-hypothesis": {"title": "all is well", "probes": probes},
        "method": activities,
        "extensions": [extension],
    }


def command(cluster: Cluster, verb: str, raw: dict[str, Any], *words: str, namespace: str = NAMESPACE) -> list[str]:
    path = cluster.folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(raw))
    return [
        str(HARNESS), "chaos", verb, str(path), "--target", "kube", "--kubeconfig", str(cluster.kubeconfig),
        "--namespace", namespace, *words,
    ]  # fmt: skip


def harness(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=120, **options)


REALLY = ("--really", "--context", "staging")
