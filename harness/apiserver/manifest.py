"""Manifests as bytes: the fields that the store needs, read without decoding the rest.

A manifest keeps its original bytes; they are changed only to add what the API guarantees and the recording lacks
(apiVersion, kind, an increasing resourceVersion).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from harness.kube.resources import Kind

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class _Metadata(msgspec.Struct, gc=False):
    name: str = ""
    namespace: str | None = None
    resourceVersion: str | None = None
    labels: dict[str, str] | None = None


class Head(msgspec.Struct, gc=False):
    """The fields that every manifest has."""

    apiVersion: str | None = None
    kind: str | None = None
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


_decode_head = msgspec.json.Decoder(Head).decode


class Object:
    """One object at one resourceVersion: its manifest's JSON, and lazily decoded labels and fields."""

    __slots__ = ("kind", "namespace", "name", "revision", "raw", "_labels", "_fields")

    def __init__(self, kind: Kind, namespace: str, name: str, revision: int, raw: bytes) -> None:
        self.kind, self.namespace, self.name = kind, namespace, name
        self.revision, self.raw = revision, raw
        self._labels: Mapping[str, str] | None = None
        self._fields: Mapping[str, str] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Namespace ("" if none) and name: the order of lists."""
        return self.namespace, self.name

    @property
    def labels(self) -> Mapping[str, str]:
        """metadata.labels."""
        if self._labels is None:
            self._labels = _decode_head(self.raw).metadata.labels or {}
        return self._labels

    @property
    def fields(self) -> Mapping[str, str]:
        """Values for field selectors of this kind; absent fields are "", as in the API."""
        if self._fields is None:
            manifest = self.manifest()
            self._fields = {path: _field(manifest, path) for path in self.kind.fields}
            self._fields |= {"metadata.name": self.name, "metadata.namespace": self.namespace}
        return self._fields

    def manifest(self) -> dict[str, Any]:
        """The manifest, freshly decoded, owned by the caller."""
        return _decode(self.raw)


def head_of(raw: bytes) -> Head:
    """The head of a manifest; ValueError if it is invalid or has no name."""
    try:
        head = _decode_head(raw)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a manifest: {error}") from None
    if not head.metadata.name:
        raise ValueError("object has no metadata.name")
    return head


def sealed(kind: Kind, raw: bytes, head: Head, revision: int) -> bytes:
    """`raw` with apiVersion, kind and this resourceVersion; unchanged if it already has them."""
    if head.metadata.resourceVersion != str(revision):
        manifest = _decode(raw)
        manifest["metadata"] = manifest["metadata"] | {"resourceVersion": str(revision)}
        return _encode(with_type(kind, manifest))
    if head.apiVersion is None or head.kind is None:
        return _encode(with_type(kind, _decode(raw)))
    return raw


def with_type(kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with apiVersion and kind added at the beginning, if missing."""
    return {"apiVersion": kind.api_version, "kind": kind.kind} | manifest


def own_revision(head: Head) -> int | None:
    """The manifest's resourceVersion as a number; None if missing or not a number."""
    text = head.metadata.resourceVersion
    return int(text) if text and text.isascii() and text.isdigit() and text != "0" else None


def _field(manifest: dict[str, Any], path: str) -> str:
    """The value at a dotted path as text; "" if absent."""
    value: Any = manifest
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if path == "source":
        value = manifest.get("source", {}).get("component") or manifest.get("reportingComponent")
    if path == "status.podIPs":
        value = ",".join(ip.get("ip", "") for ip in value or ())
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
