"""Acceptance cases as files: configuration, objects, and packets with their expected outcomes.

The format is one JSON object per file; `load` refuses invalid files, and `Case.unread` lists unknown fields, so
that no expectation is silently ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.config import NEWEST, ProxyConfig
from harness.acceptance.asserts import OF_SERVERS
from harness.acceptance.case_config import FIELDS, check, interface_of, proxy_config, settings
from harness.judge.behaviour import PROTOCOLS, Target
from harness.judge.oracle import Settings
from harness.judge.oracle.settings import packed
from harness.judge.packet import Flow, Outcome, Packet
from harness.kube.resources import ENDPOINT_SLICES, NODES, SERVICES
from harness.log.events import JsonObject

RESOURCES = {kind.kind: kind.resource for kind in (SERVICES, ENDPOINT_SLICES, NODES)}
SOURCES = ("pod-local", "pod-other-node", "external", "node-host")
OUTCOMES = ("dnat", "reject", "drop", "no-op")
_TOP = frozenset(
    "name source also related_test provenance derived note notes description config objects flows then sequence asserts"
    " asserts_partial min_version max_version vs_timeout vs_flags".split()
)
_STEP = frozenset("name note ops flows sequence asserts".split())
_FLOW = frozenset("name note from source_ip dest_ip dest_port protocol expect explicit_accept".split())
_EXPECT = frozenset("outcome endpoints masquerade explicit_accept note".split())
RELATIONS = ("any", "same-as-previous", "different-from-previous", "other")
"""Relations of a connection's endpoint to the previous ones, if no endpoint is named."""
_ADDED, _REMOVED = ("add", "create", "replace", "update", "apply"), ("delete", "remove")


class CaseError(ValueError):
    """An invalid case; the message names file, field and the valid form."""


class TimedConnection(NamedTuple):
    """A connection of a sequence, `at` seconds after its start, after these events.

    Its endpoint is one of `endpoints`, or has the relation `expected` to the previous one (of `RELATIONS`).
    """

    at: float
    flow: Flow
    events: tuple[tuple[str, str, bytes], ...]
    expected: str | list[str]
    endpoints: frozenset[Target]


class CaseStage(NamedTuple):
    """Changes, then expectations: `events` to observe, flows, a sequence of connections, assertions."""

    events: tuple[tuple[str, str, bytes], ...]
    flows: tuple[Flow, ...]
    sequence: tuple[TimedConnection, ...]
    asserts: dict[str, Any]


class Case(NamedTuple):
    """One file.  `versions` are the first and the last Kubernetes minor version for which it holds; `raw` is its
    configuration as written, `unread` lists unknown fields.
    """

    name: str
    path: str
    modes: tuple[str, ...]
    families: tuple[int, ...]
    node: str
    stages: tuple[CaseStage, ...]
    partial: bool
    versions: tuple[tuple[int, int], tuple[int, int]]
    raw: dict[str, Any]
    unread: tuple[str, ...] = ()

    def holds_in(self, version: tuple[int, int]) -> bool:
        """Whether the case holds for a version's kube-proxy."""
        return self.versions[0] <= version <= self.versions[1]

    @property
    def usual_version(self) -> tuple[int, int]:
        """The newest release, or the nearest version to it for which the case holds."""
        return min(max(NEWEST, self.versions[0]), self.versions[1])

    def proxy_config(self, version: tuple[int, int] | None = None) -> ProxyConfig:
        """The engine's configuration for this case, in its usual version unless one is given."""
        return proxy_config(self.settings(version), version or self.usual_version, self.raw)

    def settings(self, version: tuple[int, int] | None = None) -> Settings:
        """The oracle's configuration for this case, in its usual version unless one is given."""
        return settings(self.raw, _pod_cidrs(self), version or self.usual_version)


def load(path: Path) -> Iterator[Case]:
    """The case of a file, or of each .json file of a directory in order; CaseError if one is invalid."""
    for file in files(path):
        yield read(file)


def files(path: Path) -> list[Path]:
    """The case files of a path; CaseError if a directory has none."""
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.json"))
    if not found:
        raise CaseError(f"{path}: no .json file in this directory")
    return found


def read(path: Path) -> Case:
    """One file's case; CaseError names file and field."""
    try:
        raw = json.loads(path.read_text())
    except OSError as error:
        raise CaseError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CaseError(f"{path}: not JSON: {error}") from None
    return parse(path, raw)


def parse(path: Path, raw: Any) -> Case:
    """Parses a file's JSON; CaseError names file and field."""
    if not isinstance(raw, dict) or not isinstance(raw.get("config"), dict):
        raise CaseError(f"{path}: a JSON object with config, objects and flows is needed")
    try:
        check(raw["config"])
        case = _case(path, raw)
        case.proxy_config()
        return case
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None
    except KeyError as error:
        raise CaseError(f"{path}: field {error} is missing") from None
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise CaseError(f"{path}: {error}") from None


def _case(path: Path, raw: JsonObject) -> Case:
    config = raw["config"]
    local = frozenset(packed(text) for text in config.get("localAddresses") or ())
    objects = [{"op": "add", "object": manifest} for manifest in raw.get("objects") or ()]
    everywhere = {key: raw[key] for key in OF_SERVERS if key in raw}
    stages = [_stage({**raw, "ops": objects, "asserts": (raw.get("asserts") or {}) | everywhere}, local, config)]
    later = raw.get("then") or ()
    for step in [later] if isinstance(later, dict) else later:
        stages.append(_stage({"sequence_flows": raw.get("flows")} | step, local, config))
    families = {"IPv4": (4,), "IPv6": (6,)}.get(config.get("ipFamily"), (4, 6))
    return Case(
        raw.get("name") or path.stem,
        str(path),
        tuple(config.get("modes") or ()),
        families,
        config.get("nodeName") or "",
        tuple(stages),
        bool(raw.get("asserts_partial")),
        (_version(raw, "min_version", "1.30"), _version(raw, "max_version", "9.99")),
        config,
        tuple(_unread(raw, config)),
    )


def _unread(raw: JsonObject, config: JsonObject) -> Iterator[str]:
    """Unknown fields of a case, by their paths."""
    later = raw.get("then") or ()
    steps = [later] if isinstance(later, dict) else later
    flows = [flow for step in (raw, *steps) for flow in step.get("flows") or ()]
    yield from sorted(raw.keys() - _TOP)
    yield from (f"config.{key}" for key in sorted(config.keys() - FIELDS))
    yield from (f"then[].{key}" for key in sorted({key for step in steps for key in step} - _STEP))
    yield from (f"flows[].{key}" for key in sorted({key for flow in flows for key in flow} - _FLOW))
    expected = {key for flow in flows for key in flow.get("expect") or ()}
    yield from (f"flows[].expect.{key}" for key in sorted(expected - _EXPECT))


def _version(raw: JsonObject, field: str, unset: str) -> tuple[int, int]:
    """The first number of `1.33(gate)/1.34`."""
    match = re.search(r"(\d+)\.(\d+)", raw.get(field) or unset)
    if match is None:
        raise CaseError(f"{field} {raw[field]!r} names no version such as 1.30")
    return int(match[1]), int(match[2])


def _stage(step: JsonObject, local: frozenset[bytes], config: JsonObject) -> CaseStage:
    flows = tuple(_flow(flow, local, config) for flow in step.get("flows") or ())
    sequence = tuple(_connection(entry, step, local, config) for entry in step.get("sequence") or ())
    events = tuple(_event(op) for op in step.get("ops") or ())
    asserts = step.get("asserts") or {}
    if not isinstance(asserts, dict):
        raise CaseError(f"asserts {asserts!r} is not a JSON object")
    return CaseStage(events, flows, sequence, asserts)


def _event(op: JsonObject) -> tuple[str, str, bytes]:
    manifest = op.get("object") or op.get("manifest") or {}
    if op.get("op") in _REMOVED and not manifest:
        meta = {"namespace": op.get("namespace", ""), "name": op["name"]}
        manifest = {"kind": op["kind"], "metadata": meta}
    elif op.get("op") not in _ADDED + _REMOVED:
        raise CaseError(f"op {op.get('op')!r} is none of {', '.join(_ADDED + _REMOVED)}")
    if manifest.get("kind") not in RESOURCES:
        raise CaseError(f"object of kind {manifest.get('kind')!r}; one of {', '.join(RESOURCES)} is needed")
    if not isinstance(manifest.get("metadata"), dict):
        raise CaseError(f"an object of kind {manifest['kind']} has no metadata")
    kind = "DELETED" if op["op"] in _REMOVED else "MODIFIED" if op["op"] in ("replace", "update") else "ADDED"
    return kind, RESOURCES[manifest["kind"]], json.dumps(manifest).encode()


def _flow(flow: JsonObject, local: frozenset[bytes], config: JsonObject) -> Flow:
    origin = flow["from"]
    if origin not in SOURCES:
        raise CaseError(f"flow {flow.get('name')!r}: from {origin!r} is none of {', '.join(SOURCES)}")
    source, destination = packed(flow["source_ip"]), packed(flow["dest_ip"])
    here = origin == "node-host"
    packet = Packet(
        source,
        destination,
        PROTOCOLS[(flow.get("protocol") or "TCP").upper()],
        int(flow["dest_port"]),
        here,
        destination in local or (here and source == destination),
        "" if here else interface_of(origin, config),
    )
    expect = flow.get("expect")
    accepted = (expect or {}).get("explicit_accept", flow.get("explicit_accept"))
    return Flow(flow.get("name") or "", origin, packet, _expected(expect), accepted)


def _expected(expect: JsonObject | None) -> Outcome | None:
    if expect is None:
        return None
    if expect["outcome"] not in OUTCOMES:
        raise CaseError(f"outcome {expect['outcome']!r} is none of {', '.join(OUTCOMES)}")
    endpoints = frozenset(endpoint(text) for text in expect.get("endpoints") or ())
    return Outcome(expect["outcome"], endpoints, bool(expect.get("masquerade")))


def endpoint(text: str) -> tuple[bytes, int]:
    """`10.0.0.1:80` or `[fd00::1]:80` as (packed address, port)."""
    address, _, port = text.rpartition(":")
    return packed(address.strip("[]")), int(port)


def _connection(entry: JsonObject, step: JsonObject, local: frozenset[bytes], config: JsonObject) -> TimedConnection:
    """A sequence's entry with its flow and its events resolved."""
    flows = step.get("flows") or step.get("sequence_flows") or [{}]
    wanted = entry.get("flow", 0)
    found = [flow for flow in flows if flow.get("name") == wanted] if isinstance(wanted, str) else flows[wanted:][:1]
    if not found:
        raise CaseError(f"sequence: there is no flow {wanted!r}")
    flow = dict(found[0])
    flow.update(entry.get("via") or {})
    if entry.get("via"):
        flow.pop("expect", None)
    events = tuple(_event(op) for op in entry.get("ops") or ())
    expected = entry.get("expect_endpoint", "any")
    named = [expected] if isinstance(expected, str) else expected
    ends = frozenset(endpoint(text) for text in named if text not in RELATIONS)
    return TimedConnection(float(entry.get("t", 0)), _flow(flow, local, config), events, expected, ends)


def _pod_cidrs(case: Case) -> list[str]:
    """The pod CIDRs of the case's Node (DET-02)."""
    for kind, resource, manifest in case.stages[0].events:
        node = json.loads(manifest) if resource == "nodes" and kind != "DELETED" else {}
        if (node.get("metadata") or {}).get("name") == case.node:
            spec = node.get("spec") or {}
            return spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return []
