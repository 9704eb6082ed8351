"""Parses paths of the API into resource, namespace, object and subresource. Pure."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from harness.kube.resources import BY_PATH, KINDS, NAMESPACES, Kind

ROOTS = sorted({kind.root for kind in KINDS}, key=len, reverse=True)


class RequestTarget(NamedTuple):
    """The target of a path: a collection if `name` is empty."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    watch: bool = False


def target_of(path: str) -> RequestTarget | None:
    """The target of an API path, None if there is no such resource.

    The deprecated form with /watch/ after the root is supported as well.
    """
    root = next((root for root in ROOTS if path.startswith(root + "/")), None)
    if root is None:
        return None
    parts = [unquote(part) for part in path[len(root) + 1 :].strip("/").split("/")]
    watch = parts[0] == "watch"
    parts = parts[1:] if watch else parts
    namespace = ""
    if parts[:1] == ["namespaces"] and len(parts) >= 3 and (root, parts[2]) in BY_PATH:
        namespace, parts = parts[1], parts[2:]
    kind = BY_PATH.get((root, parts[0])) if parts else None
    if kind is None or len(parts) > 3 or "" in parts or (namespace and not kind.namespaced):
        return None
    name, subresource, *_ = (*parts[1:], "", "")
    if kind.namespaced and name and not namespace:
        return None
    return RequestTarget(kind, "" if kind is NAMESPACES else namespace, name, subresource, watch)
