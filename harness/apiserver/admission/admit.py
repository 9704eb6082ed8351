"""The steps of one write: shapes, defaults, allocation, validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network

import msgspec

from harness.apiserver import errors
from harness.apiserver.admission import allocation, nodes, service_defaults, services, shapes, slices
from harness.apiserver.errors import Cause
from harness.apiserver.manifest import Object
from harness.kube.resources import ENDPOINT_SLICES, NODES, SERVICES, Kind, Manifest


class Admission:
    """Admits clients' objects to a cluster with these cluster IP networks, that of the primary family first."""

    def __init__(self, service_networks: Sequence[str]) -> None:
        self._networks = {f"IPv{network.version}": network for network in map(ip_network, service_networks)}

    def admit(self, kind: Kind, new: Manifest, old: Manifest | None, existing: Iterable[Object]) -> Manifest:
        """`new` as it is to be stored; StatusError 400 or 422.

        `old` is the object that it replaces, `existing` all objects of its kind.
        """
        steps: dict[Kind, Callable[[], tuple[Manifest, list[Cause]]]] = {
            SERVICES: lambda: self._service(new, old, existing),
            ENDPOINT_SLICES: lambda: _slice(new, old),
            NODES: lambda: (new, nodes.faults(new, old)),
        }
        if kind not in steps:
            return new
        _require_shape(kind, new)
        admitted, causes = steps[kind]()
        if causes:
            raise errors.invalid(kind, new["metadata"]["name"], causes)
        return admitted

    def admit_status(self, kind: Kind, new: Manifest) -> Manifest:
        """Admit a write of the status alone."""
        if kind is not SERVICES:
            return new
        _require_shape(kind, new)
        new = service_defaults.with_status(new)
        if causes := services.status_faults(new):
            raise errors.invalid(kind, new["metadata"]["name"], causes)
        return new

    def _service(self, new: Manifest, old: Manifest | None, existing: Iterable[Object]) -> tuple[Manifest, list[Cause]]:
        new = service_defaults.complete(new, old, tuple(self._networks))
        if causes := services.faults(new, old, tuple(self._networks)):
            return new, causes
        taken = allocation.taken(found for found in existing if found.key != _key(new))
        return allocation.allocated(new, old, taken, self._networks)


def _key(manifest: Manifest) -> tuple[str, str]:
    return manifest["metadata"].get("namespace") or "default", manifest["metadata"]["name"]


def _slice(new: Manifest, old: Manifest | None) -> tuple[Manifest, list[Cause]]:
    new = slices.complete(new)
    return new, slices.faults(new, old)


def _require_shape(kind: Kind, manifest: Manifest) -> None:
    try:
        msgspec.convert(manifest, shapes.SHAPES[kind])
    except msgspec.ValidationError as error:
        text = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {error}'
        raise errors.bad_request(text) from None
