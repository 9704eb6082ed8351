"""Decides what to record: known state + updates from the API -> changes.  Pure.

A fold of the recording must always give the last seen state of the cluster, so updates are converted: an ADDED
of a known object becomes a MODIFIED, known versions are dropped, and a new list becomes the difference to the known
state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from harness.kube.resources import BY_NAME
from harness.kube.scope import ResourceScope
from harness.log.events import INITIAL_EVENTS_END, RESOURCES

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Identity(msgspec.Struct, frozen=True, gc=False):
    """The parts of an object's metadata that identify it and its version."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""


class LedgerChange(NamedTuple):
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
    """The last seen state of the cluster. ValueError for objects without a name or with invalid JSON."""

    def __init__(self) -> None:
        self._known: dict[str, dict[tuple[str, str], _Held]] = {resource: {} for resource in RESOURCES}

    def recall(self, kind: str, resource: str, manifest: bytes) -> None:
        """Apply an event that is already recorded."""
        identity = _identify(manifest)
        if kind == "DELETED":
            self._known[resource].pop((identity.namespace, identity.name), None)
        else:
            self._known[resource][identity.namespace, identity.name] = _Held(identity, bytes(manifest))

    def watched(self, kind: str, resource: str, manifest: bytes) -> Iterator[LedgerChange]:
        """The changes of a watch event: one, none, or two if the object was replaced unnoticed."""
        manifest = cleaned(resource, manifest)
        identity = _identify(manifest)
        if kind == "DELETED":
            yield from self._remove(resource, (identity.namespace, identity.name), manifest)
        else:
            yield from self._put(resource, identity, manifest)

    def listed(self, scope: ResourceScope, manifests: Iterable[bytes]) -> Iterator[LedgerChange]:
        """The difference between the known state of `scope` and a new list of it."""
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

    def _put(self, resource: str, identity: Identity, manifest: bytes) -> Iterator[LedgerChange]:
        known, key = self._known[resource], (identity.namespace, identity.name)
        held = known.get(key)
        if held is not None and _same(held.object, manifest):
            return
        known[key] = _Held(identity, manifest)
        if held is not None and held.identity.uid != identity.uid:
            yield LedgerChange("DELETED", resource, held.object)
            held = None
        yield LedgerChange("ADDED" if held is None else "MODIFIED", resource, manifest)

    def _remove(self, resource: str, key: tuple[str, str], manifest: bytes) -> Iterator[LedgerChange]:
        if self._known[resource].pop(key, None) is not None:
            yield LedgerChange("DELETED", resource, manifest)


def marker(kind: str, resource: str, **about: object) -> LedgerChange:
    """A RELIST, GAP or BOOKMARK marker with the fields of `about`."""
    return LedgerChange(kind, resource, _encode({key: value for key, value in about.items() if value}))


def initial_list_ended(resource: str) -> LedgerChange:
    """The BOOKMARK after the initial list of the resource."""
    return marker("BOOKMARK", resource, metadata={"annotations": {INITIAL_EVENTS_END: "true"}})


def cleaned(resource: str, manifest: bytes) -> bytes:
    """The manifest to record: with kind and apiVersion, which lists omit, and without managedFields."""
    try:
        fields = _decode_fields(manifest)
        if b'"managedFields"' in manifest and "metadata" in fields:
            metadata = _decode_fields(fields["metadata"])
            if metadata.pop("managedFields", None) is not None:
                fields["metadata"] = msgspec.Raw(_encode(metadata))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{resource}: not a manifest: {error}") from None
    if "kind" not in fields or "apiVersion" not in fields:
        kind = BY_NAME[resource]
        fields = {"kind": _raw(kind.kind), "apiVersion": _raw(kind.api_version)} | fields
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
    """Whether two manifests are equal as JSON values."""
    # The length detects nearly all changes without decoding.
    return one == other or len(one) == len(other) and msgspec.json.decode(one) == msgspec.json.decode(other)
