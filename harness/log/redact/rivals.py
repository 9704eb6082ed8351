"""Names that are compared: of rivals, a proxy uses the one that sorts first, so their order must be preserved.

Two slices of a Service that list the same endpoint are rivals, and so are Services with the same address and port, or
the same node port.  Only rivals keep their order: the order of all names would reveal their first letters.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from harness.kube.resources import SERVICE_NAME


class Rivals:
    """Collects rivals from manifests; `groups` are sets of names to keep in order."""

    def __init__(self) -> None:
        self._places: dict[Hashable, set[str]] = {}

    def observe(self, resource: str, manifest: Any) -> None:
        """Add one manifest; invalid ones have no rivals."""
        try:
            claims = list(_CLAIMS[resource](manifest)) if resource in _CLAIMS else []
        except (AttributeError, KeyError, TypeError):
            return
        for place, name in claims:
            if isinstance(name, str):
                self._places.setdefault(place, set()).add(name)

    @property
    def groups(self) -> list[set[str]]:
        """Disjoint sets of two or more names; rivalry is transitive."""
        group_of: dict[str, set[str]] = {}
        for names in self._places.values():
            merged = set(names).union(*(group_of.get(name, ()) for name in names))
            if len(merged) > 1:
                group_of.update(dict.fromkeys(merged, merged))
        return list({id(group): group for group in group_of.values()}.values())


def _of_slice(manifest: dict[str, Any]) -> Iterator[tuple[Hashable, str]]:
    metadata = manifest["metadata"]
    yield ("slice", metadata.get("namespace"), metadata["labels"][SERVICE_NAME]), metadata["name"]


def _of_service(manifest: dict[str, Any]) -> Iterator[tuple[Hashable, str]]:
    """Names and namespaces separately, as they are compared one after the other."""
    metadata, spec = manifest["metadata"], manifest["spec"]
    addresses = {*_texts(spec.get("clusterIPs")), *_texts(spec.get("externalIPs")), *_ingress(manifest)}
    for port in spec.get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        places = [(address, port.get("port"), protocol) for address in addresses]
        places += [("node", port["nodePort"], protocol)] if port.get("nodePort") else []
        for place in places:
            yield ("name", *place), metadata["name"]
            yield ("namespace", *place), metadata.get("namespace")


def _texts(values: Iterable[Any] | None) -> Iterator[str]:
    return (value for value in values or () if isinstance(value, str) and value != "None")


def _ingress(manifest: dict[str, Any]) -> Iterator[str]:
    listed = ((manifest.get("status") or {}).get("loadBalancer") or {}).get("ingress")
    return _texts(entry.get("ip") for entry in listed or ())


_CLAIMS = {"endpointslices": _of_slice, "services": _of_service}
