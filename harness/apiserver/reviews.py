"""SelfSubjectAccessReview and SelfSubjectRulesReview, answered from discovery. Pure.

Clients are not distinguished: every authenticated client may do everything that the server supports.
"""

from __future__ import annotations

from typing import Any

from harness.apiserver import discovery, errors
from harness.kube.resources import KINDS

GROUP, VERSION, (ACCESS, RULES) = discovery.REVIEWS
KIND_OF = {f"/apis/{GROUP}/{VERSION}/{kind.lower()}s": kind for kind in (ACCESS, RULES)}
"""Kinds of review by path."""

READABLE_PATHS = ("/api", "/apis", "/healthz", "/livez", "/openapi", "/readyz", "/version")


def answer(path: str, review: Any, writable: bool) -> dict[str, Any]:
    """The review with its status; StatusError 400 for any other object."""
    kind = KIND_OF[path]
    if not isinstance(review, dict) or not isinstance(review.get("spec"), dict) or review.get("kind", kind) != kind:
        raise errors.bad_request(f"the body is not a {kind}")
    status = _rules(writable) if kind == RULES else _access(review["spec"], writable)
    return review | {"kind": kind, "apiVersion": f"{GROUP}/{VERSION}", "status": status}


def _access(spec: dict[str, Any], writable: bool) -> dict[str, Any]:
    asked = spec.get("resourceAttributes")
    if isinstance(asked, dict):
        resource = "/".join(filter(None, (asked.get("resource"), asked.get("subresource"))))
        key = (asked.get("group") or "", resource)
        every = _verbs(writable)
        verbs = set.intersection(*every.values()) if resource == "*" or key[0] == "*" else every.get(key, set())
        allowed, what = asked.get("verb") in verbs, f"{resource}"
    else:
        asked = spec.get("nonResourceAttributes")
        if not isinstance(asked, dict):
            raise errors.bad_request("spec has neither resourceAttributes nor nonResourceAttributes")
        what = str(asked.get("path"))
        allowed = (
            asked.get("verb") in ("get", "head") and f"/{what.split('/')[1] if '/' in what else ''}" in READABLE_PATHS
        )
    reason = "" if allowed else f"this server does not {asked.get('verb')} {what}"
    return {"allowed": allowed} | ({"reason": reason} if reason else {})


def _rules(writable: bool) -> dict[str, Any]:
    rules = [
        {"verbs": sorted(verbs), "apiGroups": [group], "resources": [resource]}
        for (group, resource), verbs in _verbs(writable).items()
    ]
    paths = [path for name in READABLE_PATHS for path in (name, f"{name}/*")]
    return {
        "resourceRules": rules,
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": paths}],
        "incomplete": False,
    }


def _verbs(writable: bool) -> dict[tuple[str, str], set[str]]:
    """Verbs by group and resource; subresources are written as pods/status."""
    found = {
        (kind.group, entry["name"]): set(entry["verbs"])
        for kind in KINDS
        for entry in discovery.entries(kind, writable)
    }
    if writable:
        for key, verbs in found.items():
            if "/" not in key[1]:
                verbs.add("deletecollection")
    return found | {(GROUP, f"{kind.lower()}s"): {"create"} for kind in (ACCESS, RULES)}
