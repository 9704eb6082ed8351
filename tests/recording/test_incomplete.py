"""Incomplete input is accepted, or rejected with one line that names the missing part and an alternative."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ALL = "kubectl get services,endpointslices,nodes -A -o json"
SERVICE = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web"},
    "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ports": [{"port": 80}]},
}  # fmt: skip
SLICE = {
    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
    "metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
    "endpoints": [{"addresses": ["10.1.0.5"], "nodeName": "n1"}], "ports": [{"name": "", "port": 8080}],
}  # fmt: skip
NODES = [
    {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": []}}
    for name in ("n1", "n2")
]
UNADDRESSED = SERVICE | {"spec": {"ports": [{"port": 80}]}}


def listed(*items: dict, kind: str = "List") -> str:
    return json.dumps({"apiVersion": "v1", "kind": kind, "items": items})


def bare(item: dict) -> dict:
    return {name: value for name, value in item.items() if name not in ("kind", "apiVersion")}


def watched(*events: tuple[str, dict]) -> str:
    return "".join(json.dumps({"type": kind, "object": item}) + "\n" for kind, item in events)


def harness(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (listed(SERVICE, *NODES), "no EndpointSlices, so no Service has endpoints"),
        (listed(SERVICE, SLICE), "no Nodes, so the node's addresses and zone are unknown"),
        (listed(bare(SERVICE), kind="ServiceList"), "no EndpointSlices, so no Service has endpoints; no Nodes"),
        (
            watched(("ADDED", SERVICE), ("MODIFIED", SERVICE)),
            "no EndpointSlices, so no Service has endpoints; no Nodes",
        ),
        (listed(UNADDRESSED, SLICE, *NODES), "Services without clusterIP: 1"),
        (listed(*NODES), "no Services, so there is nothing to program"),
        (listed(SERVICE, SLICE, *NODES), None),
    ],
    ids=["slices", "nodes", "ServiceList", "watch", "clusterIP", "services", "whole"],
)
def test_missing_input_is_reported_in_one_line(tmp_path, text, said):
    path = tmp_path / "dump.json"
    path.write_text(text)
    done = harness("replay", path, "--kernel", "memory", "--verify", "none")
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == (said is not None)
    assert said is None or (said in done.stderr and done.stderr.rstrip().endswith(ALL))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (listed(bare(SERVICE)), f"an item without kind, which is not kubectl output; use: {ALL}"),
        (yaml.safe_dump(SERVICE), "harness import"),
        (yaml.safe_dump_all([SERVICE, SLICE], explicit_start=True), "harness import"),
    ],
    ids=["kind", "YAML", "documents"],
)
def test_unsupported_input_is_rejected_with_an_alternative(tmp_path, text, said):
    path = tmp_path / "dump.txt"
    path.write_text(text)
    done = harness("replay", path, "--kernel", "memory")
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [
        ["replay", "--kernel", "memory"],
        ["plan", "--mode", "nftables"],
        ["trace", "--from", "external:192.0.2.1", "--to", "10.96.0.10:80"],
        ["compare", "--kube-versions", "1.30,1.37"],
    ],
    ids=lambda words: words[0],
)
def test_an_unknown_node_is_answered_with_names_and_a_deleted_one_reported(tmp_path, command):
    path = tmp_path / "watch.json"
    objects = [("ADDED", item) for item in (SERVICE, SLICE, *NODES)]
    path.write_text(watched(*objects, ("DELETED", NODES[1])))
    done = harness(command[0], path, *command[1:], "--node", "n3")
    assert done.returncode == 2 and "no Node 'n3'" in done.stderr and "there are n1, n2" in done.stderr
    done = harness(command[0], path, *command[1:], "--node", "n2")
    assert done.returncode == 0 and "Node n2 is deleted at seq 8" in done.stderr, done.stderr
