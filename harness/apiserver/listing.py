"""Lists: complete or in pages, always of a consistent snapshot; response bodies are cached until something changes.

A continue token identifies the snapshot it pages through.  Snapshots are shared values, so a token costs one
reference; the oldest expire, and their tokens are answered with 410.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from harness.apiserver import errors, wire
from harness.apiserver.manifest import Object
from harness.apiserver.scope import Scope
from harness.apiserver.store import Collection, Snapshot
from harness.kube.resources import Kind

SNAPSHOTS, BODIES = 64, 4
"""Maximum snapshots kept for tokens, and cached bodies."""

MATCHES = ("", "Exact", "NotOlderThan")


class ContinueToken(msgspec.Struct):
    """The contents of a continue token: the next object, and the snapshot."""

    rv: int
    start: int
    resource: str
    v: str = "meta.k8s.io/v1"


class Listing(NamedTuple):
    """Parameters of a list request: resourceVersion (None if unset), match, limit, token."""

    revision: int | None = None
    match: str = ""
    limit: int = 0
    token: str = ""


class Lister:
    """Answers lists of every collection."""

    def __init__(self, most: int = 0) -> None:
        """Pages have at most `most` objects, even if clients ask for more, as the API allows; 0: no limit."""
        self._most = most
        self._snapshots: OrderedDict[tuple[str, int, Scope], tuple[Object, ...]] = OrderedDict()
        self._bodies: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()

    def body(self, collection: Collection, scope: Scope, listing: Listing, form: wire.Form) -> bytes:
        """The response body; StatusError if the version has expired or is in the future."""
        kind = collection.kind
        if listing.token:
            page = _page(kind, listing.token)
            return self._paged(kind, scope, page.rv, page.start, listing.limit, form)
        snapshot = collection.snapshot()
        _check(snapshot.revision, listing, collection.compacted)
        if listing.limit and listing.revision != 0:
            self._keep(kind, scope, snapshot)
            return self._paged(kind, scope, snapshot.revision, 0, listing.limit, form)
        return self._whole(kind, scope, snapshot, form)

    def _whole(self, kind: Kind, scope: Scope, snapshot: Snapshot, form: wire.Form) -> bytes:
        seen = snapshot.objects if scope == Scope() else filter(scope.sees, snapshot.objects)
        metadata = {"resourceVersion": str(snapshot.revision)}
        if form.shape == "table":  # it contains ages, so it is never cached
            return wire.many(kind, seen, metadata, form)
        key = kind.qualified, snapshot.revision, scope, form
        if key not in self._bodies:
            self._bodies[key] = wire.many(kind, seen, metadata, form)
        self._bodies.move_to_end(key)
        while len(self._bodies) > BODIES:
            self._bodies.popitem(last=False)
        return self._bodies[key]

    def _keep(self, kind: Kind, scope: Scope, snapshot: Snapshot) -> None:
        key = kind.qualified, snapshot.revision, scope
        if key not in self._snapshots:
            self._snapshots[key] = tuple(filter(scope.sees, snapshot.objects))
        self._snapshots.move_to_end(key)
        while len(self._snapshots) > SNAPSHOTS:
            self._snapshots.popitem(last=False)

    def _paged(self, kind: Kind, scope: Scope, revision: int, start: int, limit: int, form: wire.Form) -> bytes:
        objects = self._snapshots.get((kind.qualified, revision, scope))
        if objects is None:
            raise errors.continue_expired()
        limit = min(limit or len(objects), self._most or len(objects))
        end = start + limit
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        if end < len(objects):
            metadata["continue"] = _token(ContinueToken(revision, end, kind.qualified))
            if not scope.selective:
                metadata["remainingItemCount"] = len(objects) - end
        return wire.many(kind, objects[start:end], metadata, form)


def listing_of(kind: Kind, query: Mapping[str, str]) -> Listing:
    """The list request in a query; StatusError 400 or 422 if invalid."""
    revision = number("resourceVersion", query.get("resourceVersion", ""))
    match, token = query.get("resourceVersionMatch", ""), query.get("continue", "")
    limit = number("limit", query.get("limit", "")) or 0
    if match not in MATCHES:
        supported = 'supported values: "Exact", "NotOlderThan"'
        raise errors.invalid(
            kind, "", [errors.Cause("resourceVersionMatch", f'Unsupported value: "{match}": {supported}')]
        )
    if match and revision is None:
        why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise errors.invalid(kind, "", [errors.Cause("resourceVersionMatch", why)])
    if match == "Exact" and revision == 0:
        why = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        raise errors.invalid(kind, "", [errors.Cause("resourceVersionMatch", why)])
    if token and revision:
        raise errors.bad_request("specifying resource version is not allowed when using continue")
    return Listing(revision, match, limit, token)


def number(name: str, text: str) -> int | None:
    """An unsigned number from a query, None if empty; StatusError 400 if invalid."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise errors.bad_request(
            f'{name}: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    return int(text)


def _check(current: int, listing: Listing, compacted: int) -> None:
    if listing.revision is None or listing.revision == 0:
        return
    if listing.revision > current:
        raise errors.too_new(listing.revision, current)
    exact = listing.match == "Exact" or (listing.limit and not listing.match)
    if exact and listing.revision != current:
        raise errors.expired(listing.revision, max(compacted, current))


def _token(page: ContinueToken) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(page)).decode().rstrip("=")


def _page(kind: Kind, token: str) -> ContinueToken:
    try:
        page = msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=ContinueToken)
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise errors.bad_request("continue key is not valid: it is not a token that this server gave") from None
    if page.resource != kind.qualified:
        raise errors.bad_request(f"continue key is not valid: it continues a list of {page.resource}")
    return page
