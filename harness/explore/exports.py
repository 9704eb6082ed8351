"""The page's views as files: CSV, manifests for `kubectl apply`, rules and their difference.  Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from difflib import unified_diff
from typing import Any

import yaml

from harness.explore.convergence import Convergence
from harness.explore.history import History
from harness.explore.run import ChaosRun, RequestInterval
from harness.log.events import JsonObject
from harness.log.state import key_of

NS = 1_000_000_000
OF_A_SERVER = frozenset(
    ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
     "managedFields", "ownerReferences", "selfLink")
)  # fmt: skip
"""Metadata of one cluster, which another one rejects or would misinterpret."""
APPLIED = ("Service", "EndpointSlice")
EVERYWHERE = frozenset(("default", "kube-system", "kube-public", "kube-node-lease"))
"""Namespaces that exist in every cluster."""


def applicable(listing: JsonObject) -> str:
    """The Services and slices of a List, with their namespaces, as documents for `kubectl apply` in another cluster.

    Services lose their selectors: otherwise that cluster's controller would replace the slices.
    """
    found = [_bare(each) for each in listing["items"] if each["kind"] in APPLIED]
    names = sorted({each["metadata"].get("namespace") or "default" for each in found} - EVERYWHERE)
    namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names]
    items = [*namespaces, *sorted(found, key=lambda each: APPLIED.index(each["kind"]))]
    return yaml.dump_all(items, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _bare(manifest: JsonObject) -> JsonObject:
    metadata = {name: value for name, value in manifest["metadata"].items() if name not in OF_A_SERVER}
    fields = {name: value for name, value in manifest.items() if name != "status"} | {"metadata": metadata}
    if manifest["kind"] == "Service":
        spec = manifest.get("spec") or {}
        fields["spec"] = {name: value for name, value in spec.items() if name != "selector"}
    return fields


def difference(before: str, after: str, at: int) -> str:
    """The unified diff of the rules before and after the event."""
    names = f"before-event-{at}", f"after-event-{at}"
    lines = unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with a header; None is empty."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(columns)
    out.writerows(rows)
    return text.getvalue()


def records(rows: Sequence[JsonObject], columns: Sequence[str]) -> str:
    """CSV of objects with these fields."""
    return table(columns, ([row[name] for name in columns] for row in rows))


def events(history: History) -> str:
    """Every event so far, one per row."""
    return table(("count", "seq", "at_seconds", "type", "resource", "namespace", "name"), _events(history))


def _events(history: History) -> Iterator[Sequence[object]]:
    for count, event in enumerate(history.events[: len(history)], 1):
        try:
            _, namespace, name = key_of(event)
        except ValueError:  # markers and bookmarks have no object
            namespace = name = ""
        yield count, event.seq, _seconds(event.t / NS), event.type, event.resource, namespace, name


def convergence(found: Convergence) -> str:
    """Each change; if only intervals are known, the slowest change of each."""
    columns = ("at_seconds", "seconds", "seq", "where", "pacing_seconds", "queue_seconds", "work_seconds")
    points = [(p.at_seconds, p.seconds, p.seq, p.where, *_parts(p.parts or {})) for p in found.points]
    return table(columns, [*points, *((s.at_seconds, s.seconds) for s in found.stretches)])


def _parts(parts: dict[str, float]) -> Sequence[float | None]:
    return [parts.get(name) for name in ("pacing", "queue", "work")]


def requests(run: ChaosRun) -> str:
    """A chaos run's requests by interval, with the faults in force."""
    columns = ("at_seconds", "seconds", "answered", "lost", "p99_ms", "faults")
    return table(columns, (_interval(each, run) for each in run.requests))


def _interval(each: RequestInterval, run: ChaosRun) -> Sequence[object]:
    end = each.at + run.step_seconds
    faults = " ".join(fault.name for fault in run.faults if fault.began < end and fault.ended >= each.at)
    return _seconds(each.at), run.step_seconds, each.answered, each.lost, each.p99_ms, faults


def _seconds(value: float) -> str:
    return f"{value:.6f}"
