"""Discovery: versions, groups and resources."""

from __future__ import annotations

import re
from typing import Any

from harness.kube.resources import KINDS, Kind

VERSION = "v1.34.0+harness"
"""The version of a server without a recording, or with one that does not contain it."""

REVIEWS = ("authorization.k8s.io", "v1", ("SelfSubjectAccessReview", "SelfSubjectRulesReview"))
"""Group, version and kinds of virtual resources, which are never stored."""

VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
READ_VERBS = ["get", "list", "watch"]


def documents(writable: bool, version: str = VERSION) -> dict[str, dict[str, Any]]:
    """Every discovery document by its path; `version` is a gitVersion."""
    found: dict[str, dict[str, Any]] = {
        "/version": _version(version),
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*pair) for pair in _groups()]},
        "/api/v1": _resources("", "v1", writable),
    }
    for group, version in _groups():
        found[f"/apis/{group}"] = {"kind": "APIGroup", "apiVersion": "v1"} | _group(group, version)
        found[f"/apis/{group}/{version}"] = _resources(group, version, writable)
    return found


def _version(text: str) -> dict[str, str]:
    found = re.match(r"v?(\d+)\.(\d+\+?)", text) or re.match(r"v(\d+)\.(\d+)", VERSION)
    assert found, "our own version is one"
    major, minor = found.groups()
    return {
        "major": major,
        "minor": minor,
        "gitVersion": text,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2025-08-27T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }


def _groups() -> list[tuple[str, str]]:
    return sorted({(kind.group, kind.version) for kind in KINDS if kind.group} | {REVIEWS[:2]})


def _group(group: str, version: str) -> dict[str, Any]:
    entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


def _resources(group: str, version: str, writable: bool) -> dict[str, Any]:
    name = f"{group}/{version}" if group else version
    kinds = [kind for kind in KINDS if (kind.group, kind.version) == (group, version)]
    resources = [entry for kind in sorted(kinds) for entry in entries(kind, writable)]
    if (group, version) == REVIEWS[:2]:
        for kind in REVIEWS[2]:
            names = {"name": f"{kind.lower()}s", "singularName": kind.lower(), "namespaced": False}
            resources.append(names | {"kind": kind, "verbs": ["create"]})
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}


def entries(kind: Kind, writable: bool) -> list[dict[str, Any]]:
    """The discovery entries of a resource and its subresources."""
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
