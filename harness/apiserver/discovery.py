"""What clients ask before anything else: versions, groups, resources, and as much OpenAPI as they need."""

from __future__ import annotations

from typing import Any

from harness.serve.kinds import KINDS, Kind

VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0+harness",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2025-08-27T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
READ_VERBS = ["get", "list", "watch"]


def documents(writable: bool) -> dict[str, dict[str, Any]]:
    """Every discovery document by its path."""
    found: dict[str, dict[str, Any]] = {
        "/version": VERSION,
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*pair) for pair in _groups()]},
        "/api/v1": _resources("", "v1", writable),
    }
    for group, version in _groups():
        found[f"/apis/{group}"] = {"kind": "APIGroup", "apiVersion": "v1"} | _group(group, version)
        found[f"/apis/{group}/{version}"] = _resources(group, version, writable)
    return found


def _groups() -> list[tuple[str, str]]:
    return sorted({(kind.group, kind.version) for kind in KINDS if kind.group})


def _group(group: str, version: str) -> dict[str, Any]:
    entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


def _resources(group: str, version: str, writable: bool) -> dict[str, Any]:
    name = f"{group}/{version}" if group else version
    kinds = [kind for kind in KINDS if (kind.group, kind.version) == (group, version)]
    resources = [entry for kind in sorted(kinds) for entry in _entries(kind, writable)]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}


def _entries(kind: Kind, writable: bool) -> list[dict[str, Any]]:
    verbs = VERBS if writable else [*READ_VERBS, *(["create"] if kind.resource == "events" else [])]
    head = {"name": kind.resource, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind}
    entry = head | {"verbs": sorted(verbs)}
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    entries = [entry]
    if kind.status:
        sub = head | {"name": f"{kind.resource}/status", "singularName": ""}
        entries.append(sub | {"verbs": ["get", "patch", "update"] if writable else ["get"]})
    if kind.resource == "pods" and writable:
        eviction = {"name": "pods/eviction", "singularName": "", "namespaced": True, "group": "policy", "version": "v1"}
        entries.append(eviction | {"kind": "Eviction", "verbs": ["create"]})
    return entries
