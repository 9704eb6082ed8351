"""Checks of manifests beyond what reading needs: names, addresses, ports, and consistency of changes.

Deliberately plain dictionaries and lists: sharing the engine's decoding would share its mistakes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from harness.kube.resources import BY_NAME
from harness.log.events import OBJECT_TYPES, Event

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Checker:
    """Tracks the existing objects. `problems(event)` returns messages, empty if the event is valid."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str, str]] = set()

    def problems(self, event: Event) -> list[str]:
        """Problems of the event's manifest or its position; events must be passed in order."""
        if event.type not in OBJECT_TYPES:
            return []
        try:
            manifest = _decode(event.object)
        except (ValueError, RecursionError) as error:
            return [f"manifest is not JSON ({error})"]
        key, found = _identity(event.resource, manifest)
        found = found or self._track(event.type, key)
        where = f"{event.type} {event.resource} {'/'.join(filter(None, key[1:])) or '(unnamed)'}"
        return [f"{where}: {text}" for text in (*found, *_contents(event.resource, manifest))]

    def _track(self, kind: str, key: tuple[str, str, str]) -> list[str]:
        missing = kind != "ADDED" and key not in self._known
        if kind == "DELETED":
            self._known.discard(key)
        else:
            self._known.add(key)
        return [f"{kind} but does not exist; ADDED must come first"] if missing else []


def _identity(resource: str, manifest: dict[str, Any]) -> tuple[tuple[str, str, str], list[str]]:
    """The object's key, and messages about missing parts."""
    metadata = manifest.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    wanted = ("namespace", "name") if BY_NAME[resource].namespaced else ("name",)
    texts = {field: text for field in wanted if isinstance(text := metadata.get(field), str) and text}
    bad = [field for field in wanted if field not in texts]
    key = resource, texts.get("namespace", ""), texts.get("name", "")
    return key, [f"no metadata.{field}; it must be a non-empty string" for field in bad]


def _contents(resource: str, manifest: dict[str, Any]) -> Iterator[str]:
    if resource == "endpointslices":
        yield from _slice(manifest)
    elif resource == "services":
        spec = manifest.get("spec")
        ports, bad = _objects("spec.ports", spec.get("ports") if isinstance(spec, dict) else None)
        yield from bad
        for where, port in ports:
            yield from _ports(where, port, ("port", "nodePort"))
            if not isinstance(port.get("targetPort"), str):
                yield from _ports(where, port, ("targetPort",))


def _slice(manifest: dict[str, Any]) -> Iterator[str]:
    family = manifest.get("addressType")
    if family not in ("IPv4", "IPv6", "FQDN"):
        yield f"addressType is {family!r}; it must be IPv4, IPv6 or FQDN"
    endpoints, bad = _objects("endpoints", manifest.get("endpoints"))
    yield from bad
    for where, endpoint in endpoints:
        addresses = endpoint.get("addresses")
        if not isinstance(addresses, list) or not addresses:
            yield f"{where}.addresses is {addresses!r}; it must list at least one address"
            continue
        wrong = (text for text in addresses if not _is_address(family, text))
        yield from (f"{where} has address {text!r}; it must be of type {family}" for text in wrong)
    ports, bad = _objects("ports", manifest.get("ports"))
    yield from bad
    for where, port in ports:
        yield from _ports(where, port, ("port",))


def _objects(where: str, value: Any) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """Objects of a list that may be null, each with its path, and messages about invalid items."""
    if value is None:
        return [], []
    if not isinstance(value, list):
        return [], [f"{where} is {value!r}; it must be a list"]
    named = [(f"{where}[{i}]", item) for i, item in enumerate(value)]
    bad = [f"{at} is {item!r}; it must be an object" for at, item in named if not isinstance(item, dict)]
    return [(at, item) for at, item in named if isinstance(item, dict)], bad


def _ports(where: str, port: dict[str, Any], fields: Iterable[str]) -> Iterator[str]:
    for field in fields:
        value = port.get(field)
        # True is an int to Python; null and absent mean "all ports" or "not set" to Kubernetes.
        sound = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535
        if value is not None and not sound:
            yield f"{where}.{field} is {value!r}; it must be an integer 0 to 65535"


def _is_address(family: Any, text: Any) -> bool:
    """Whether `text` is an address of the slice's type; of unknown types, anything is."""
    if not isinstance(text, str) or not text:
        return False
    if family == "IPv4":
        return _is_ipv4(text)
    if family == "IPv6":
        try:
            return ipaddress.IPv6Address(text).scope_id is None
        except ValueError:
            return False
    return True


def _is_ipv4(text: str) -> bool:
    """Decimal octets, possibly with leading zeros: old API servers accepted "010.0.0.1"."""
    octets = text.split(".")
    return len(octets) == 4 and all(
        o.isascii() and o.isdigit() and int(o[-4:]) < 256 and not o[:-3].strip("0") for o in octets
    )
