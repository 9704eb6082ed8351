"""Small folders of runs, as a run writes them, with the contents that a test needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

from chaos.verdict.facts import DIGITS, HIGHEST_US, LOWEST_US

BEGAN_NS = 1_000_000_000_000
HEADER = {
    "format": "kube-proxy-harness/recording", "version": 1,
    "resources": ["services", "endpointslices", "nodes", "pods"],
    "start": "2026-01-01T00:00:00+00:00", "cluster": {"name": "lab"}, "generator": {"name": "lab", "seed": 0},
}  # fmt: skip


def fault(number: int, name: str, began: float, lasts: float = 4.0, **fields: Any) -> dict[str, Any]:
    """The finding of one step; by default injected, healed and settled."""
    done = {
        "number": number, "fault": name, "pods": ["web-1"], "nodes": [], "began": began, "confirmed": began + 0.1,
        "ended": began + lasts, "settled": began + lasts + 0.5, "injected": True, "healed": True, "missing": [],
        "errors": [], "asked_seconds": lasts - 0.1, "in_force_seconds": lasts - 0.1,
    }  # fmt: skip
    return done | fields


def failure(at: float, **fields: Any) -> dict[str, Any]:
    """A lost request."""
    row = {
        "kind": "failure", "at_ns": ns(at), "ended_ns": ns(at + 0.01), "flow": "nodeport-http", "cause": "refused",
        "via": "10.10.0.11:30080", "node": "node-1", "endpoint": "10.120.1.10:8080", "pod": "web-1",
    }  # fmt: skip
    return row | fields


def followed(
    node: str, asked: float, lag: float, wanted: bool = False, address: str = "10.120.1.10", seen: bool = True
):
    """A node's kernel that followed a change after a while, or had not by then."""
    until = asked + lag
    return {
        "node": node, "address": address, "wanted": wanted, "asked": asked, "seen": until if seen else None,
        "until": until,
    }  # fmt: skip


def ns(seconds: float) -> int:
    """The log's time as CLOCK_MONOTONIC."""
    return BEGAN_NS + int(seconds * 1e9)


def write_run(
    folder: Path,
    faults: list[dict[str, Any]],
    failures: list[dict[str, Any]] = (),
    observations: list[dict[str, Any]] = (),
    seconds: float = 20.0,
    rate: int = 100,
    ready: dict[float, list[str]] | None = None,
    late: int = 0,
    total: dict[str, Any] | None = None,
    **raw: Any,
) -> Path:
    """`raw` replaces fields of run.json, `total` of the load's summary; `ready` are the slices' ready pods by time.

    Pod web-N is on node-N; `late` requests of each second were.
    """
    (folder / "load").mkdir(parents=True)
    facts = {
        "version": 1, "experiment": {"title": "A made run", "description": "For tests.", "file": "made.yaml"},
        "seed": 7, "mode": "nftables",
        "environment": {"kernel": "6.1", "python": "3.11", "cpus": 2, "harness": "0.1.0"},
        "lab": {"nodes": 3, "pods": 4}, "began_monotonic_ns": BEGAN_NS, "seconds": seconds, "baseline_seconds": 2.0,
        "plan": {"seed": 7, "cluster": {"nodes": ["node-1", "node-2", "node-3"], "pods": [], "mode": "nftables"},
                 "steps": [_step(f) for f in faults]},
        "performed": faults, "observations": list(observations),
        "usage": usage(seconds),
        "load": [{"name": "client", "where": "client", "file": "load/client.jsonl", "exit_code": 0}],
        "objectives": {"error_budget_percent": 5.0}, "finished": True,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts | raw))
    rows = _load(list(failures), int(seconds), rate, late)
    rows[-2] |= total or {}
    (folder / "load" / "client.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = [*_pod_events(faults), *_slice_events(ready or {})]
    changes = [e | {"seq": n} for n, e in enumerate(sorted(changes, key=lambda e: e["t"]), 1)]
    events = [HEADER, *changes]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def usage(seconds: float, **nodes: dict[str, Any]) -> list[dict[str, Any]]:
    """What engines used after warm-up and at the end; `nodes` replaces fields of theirs at the end."""

    def at(time: float, part: float) -> dict[str, Any]:
        engines = {
            f"node-{n}": {"pid": n, "cpu_seconds": 1 + part * cpu, "memory_bytes": 50 << 20}
            for n, cpu in ((1, 0.5), (2, 0.25), (3, 0.25))
        }
        return {"at": time, "engines": engines}

    last = at(seconds, 1.0)
    for node, fields in nodes.items():
        last["engines"][node.replace("_", "-")] |= fields
    return [at(0.0, 0.0), last]


def _step(done: dict[str, Any]) -> dict[str, Any]:
    op = {"at": 0, "name": "pod.signal", "arguments": {"pod": "web-1", "number": "SIGKILL"}}
    script = {"inject": [op], "evidence": [], "heal": [{**op, "name": "pod.start"}], "healed": []}
    parameters = {"pods": 1, "node": None}
    return {"seconds": 4.0, "parameters": parameters, "script": script} | {
        key: done[key] for key in ("number", "fault", "pods", "nodes")
    }


def _load(failures: list[dict[str, Any]], seconds: int, rate: int, late: int) -> list[dict[str, Any]]:
    histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    for n in range(1000):
        histogram.record_value(900 + 5 * n)
    causes: dict[str, int] = {}
    for row in failures:
        causes[row["cause"]] = causes.get(row["cause"], 0) + 1
    header = {"kind": "header", "version": 1, "name": "client", "where": "client", "flows": ["nodeport-http"],
              "arrivals_per_second": rate, "shape": {"kind": "steps", "seconds": 5, "factors": [1, 2]}, "seed": 7,
              "began_monotonic_ns": ns(2)}  # fmt: skip
    rows = [
        {"kind": "second", "at_ns": ns(at), "flow": "nodeport-http", "sent": rate, "answered": rate, "failed": 0,
         "late": late, "p50_us": 900 + at, "p99_us": 4_000 + 100 * at, "max_us": 9_000}
        for at in range(2, seconds)
    ]  # fmt: skip
    sent = rate * max(0, seconds - 2)
    total = {"kind": "flow", "flow": "nodeport-http", "sent": sent, "answered": max(0, sent - len(failures)),
             "failed": len(failures), "not_sent": 0, "causes": causes, "p50_us": 3400, "p90_us": 5400, "p99_us": 5850,
             "p999_us": 5895, "max_us": 9000, "histogram": histogram.encode().decode(), "endpoints": {}}  # fmt: skip
    end = {"kind": "end", "ended_monotonic_ns": ns(seconds), "cpu_seconds": 1.5}
    return [header, *rows, *failures, total, end]


def _pod_events(faults: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every pod that is hit is ready, then unready two seconds after its fault."""
    changes = [(0.5, pod, "True") for pod in sorted({pod for f in faults for pod in f["pods"]})]
    changes += [(f["began"] + d, pod, s) for f in faults for pod in f["pods"] for d, s in ((2, "False"), (4.2, "True"))]
    return [
        {"seq": n, "t": int(t * 1e9), "type": "ADDED" if t == 0.5 else "MODIFIED", "resource": "pods",
         "object": {"metadata": {"name": pod, "namespace": "default"},
                    "spec": {"nodeName": pod.replace("web-", "node-")},
                    "status": {"conditions": [{"type": "Ready", "status": ready}]}}}
        for n, (t, pod, ready) in enumerate(sorted(changes), 1)
    ]  # fmt: skip


def _slice_events(ready: dict[float, list[str]]) -> list[dict[str, Any]]:
    """A slice whose ready endpoints are those pods, from each time on."""
    return [
        {"seq": 0, "t": int(t * 1e9), "type": "MODIFIED" if n else "ADDED", "resource": "endpointslices",
         "object": {"metadata": {"name": "web-1", "namespace": "default"},
                    "endpoints": [{"conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": pod}}
                                  for pod in pods]}}
        for n, (t, pods) in enumerate(sorted(ready.items()))
    ]  # fmt: skip


def ordinary(folder: Path) -> Path:
    """Two faults, some lost requests, every kernel converged: the verdict is true."""
    nodes = ("node-1", "node-2", "node-3")
    return write_run(
        folder,
        [fault(1, "pod-kill", 4.0), fault(2, "node-cut", 12.0, pods=[], nodes=["node-2"])],
        [failure(4 + n / 10) for n in range(20)] + [failure(13, cause="timeout", node="node-2", pod=None)],
        [followed(node, 6.01, 0.05 + n / 10) for n, node in enumerate(nodes)]
        + [followed(node, 8.6, 0.02, wanted=True) for node in nodes],
    )


def broken(folder: Path) -> Path:
    """A fault that was not injected, one that was not healed, a kernel that never converged: hostile texts in all."""
    hostile = "<script>alert('x')</script> | `rm` \x00\x1b[31m ]]> & \"quoted\" é"
    return write_run(
        folder,
        [
            fault(1, "pod-kill", 4.0, injected=False, errors=[hostile]),
            fault(
                2, "node-<b>cut", 12.0, healed=False, ended=15.0, settled=None, errors=[hostile * 9], nodes=["node-2"]
            ),
        ],
        [failure(5 + n / 50, cause=f"cause {n % 9} {hostile}", node=None) for n in range(90)],
        [followed("node-1", 5.0, 3.5, seen=False), followed("node-3", 12.5, 70.0)],
        experiment={"title": hostile, "description": hostile, "file": "/tmp/`a b`.yaml"},
        objectives={
            "error_budget_percent": 0.1,
            "node_convergence_seconds": 1.0,
            "faults": {"pod-hang": {"max_lost_requests": 1}},
        },
    )
