"""What is recorded of what the API says: known state + news -> changes.  Pure.

A fold of the recording must always give the cluster's state as it was last seen, so news is put into
the words that keep it so: an ADDED of what is known is a MODIFIED, what was known already is nothing,
and a new list becomes the difference to what is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from harness.events import INITIAL_EVENTS_END

KINDS = {
    "services": ("v1", "Service"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "nodes": ("v1", "Node"),
    "pods": ("v1", "Pod"),
}

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Scope(NamedTuple):
    """What one list and one watch cover: a resource, in one namespace or ("") in all."""

    resource: str
    namespace: str = ""


class Identity(msgspec.Struct, frozen=True, gc=False):
    """An object's metadata, as far as it tells objects and their versions apart."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""


class Change(NamedTuple):
    """An event without its seq and time: type, resource and the manifest's JSON."""

    type: str
    resource: str
    object: bytes


class _Held(NamedTuple):
    identity: Identity
    object: bytes


class _Meta(msgspec.Struct, gc=False):
    metadata: Identity = msgspec.field(default_factory=Identity)


_decode_identity = msgspec.json.Decoder(_Meta).decode


class Ledger:
    """The cluster as last seen. ValueError for objects without a name or that are no JSON."""

    def __init__(self) -> None:
        self._known: dict[str, dict[tuple[str, str], _Held]] = {resource: {} for resource in KINDS}

    def recall(self, kind: str, resource: str, manifest: bytes) -> None:
        """Take in an event that is recorded already."""
        identity = _identify(manifest)
        if kind == "DELETED":
            self._known[resource].pop((identity.namespace, identity.name), None)
        else:
            self._known[resource][identity.namespace, identity.name] = _Held(identity, bytes(manifest))

    def watched(self, kind: str, resource: str, manifest: bytes) -> Iterator[Change]:
        """What a watch event changes: one Change, two when the object was replaced unseen, or none."""
        manifest = cleaned(resource, manifest)
        identity = _identify(manifest)
        if kind == "DELETED":
            yield from self._remove(resource, (identity.namespace, identity.name), manifest)
        else:
            yield from self._put(resource, identity, manifest)

    def listed(self, scope: Scope, manifests: Iterable[bytes]) -> Iterator[Change]:
        """The difference between what is known of `scope` and the list of all there is in it now."""
        seen = set()
        for manifest in manifests:
            manifest = cleaned(scope.resource, manifest)
            identity = _identify(manifest)
            seen.add((identity.namespace, identity.name))
            yield from self._put(scope.resource, identity, manifest)
        known = self._known[scope.resource]
        gone = [key for key in known if key not in seen and scope.namespace in ("", key[0])]
        for key in sorted(gone):
            yield from self._remove(scope.resource, key, known[key].object)

    def _put(self, resource: str, identity: Identity, manifest: bytes) -> Iterator[Change]:
        known, key = self._known[resource], (identity.namespace, identity.name)
        held = known.get(key)
        if held is not None and _same(held.object, manifest):
            return
        known[key] = _Held(identity, manifest)
        if held is not None and held.identity.uid != identity.uid:
            yield Change("DELETED", resource, held.object)
            held = None
        yield Change("ADDED" if held is None else "MODIFIED", resource, manifest)

    def _remove(self, resource: str, key: tuple[str, str], manifest: bytes) -> Iterator[Change]:
        if self._known[resource].pop(key, None) is not None:
            yield Change("DELETED", resource, manifest)


def marker(kind: str, resource: str, **about: Any) -> Change:
    """A RELIST, GAP or BOOKMARK that says `about`."""
    return Change(kind, resource, _encode({key: value for key, value in about.items() if value}))


def initial_list_ended(resource: str) -> Change:
    """The BOOKMARK behind the resource's initial list."""
    return marker("BOOKMARK", resource, metadata={"annotations": {INITIAL_EVENTS_END: "true"}})


def cleaned(resource: str, manifest: bytes) -> bytes:
    """The manifest as it is recorded: with kind and apiVersion, which lists leave out, without managedFields."""
    try:
        fields = _decode_fields(manifest)
        if b'"managedFields"' in manifest and "metadata" in fields:
            metadata = _decode_fields(fields["metadata"])
            if metadata.pop("managedFields", None) is not None:
                fields["metadata"] = msgspec.Raw(_encode(metadata))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{resource}: not a manifest: {error}") from None
    if "kind" not in fields or "apiVersion" not in fields:
        version, kind = KINDS[resource]
        fields = {"kind": _raw(kind), "apiVersion": _raw(version)} | fields
    return _encode(fields)


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(_encode(text))


def _identify(manifest: bytes) -> Identity:
    try:
        identity = _decode_identity(manifest).metadata
    except msgspec.DecodeError as error:
        raise ValueError(f"not a manifest: {error}") from None
    if not identity.name:
        raise ValueError("object has no metadata.name")
    return identity


def _same(one: bytes, other: bytes) -> bool:
    """Whether two manifests say the same, however they are written."""
    # The length tells nearly all changes apart without decoding.
    return one == other or len(one) == len(other) and msgspec.json.decode(one) == msgspec.json.decode(other)
