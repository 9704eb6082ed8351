"""Defaults and validation of an EndpointSlice (discovery/validation)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.apiserver.admission import checks
from harness.apiserver.admission.service_defaults import family_of
from harness.apiserver.admission.services import PROTOCOLS
from harness.apiserver.errors import Cause

ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
MOST_ENDPOINTS, MOST_ADDRESSES, MOST_PORTS, MOST_HINTS = 1000, 100, 100, 8


def complete(new: dict[str, Any]) -> dict[str, Any]:
    """The slice with a name and protocol for every port, and a list of endpoints."""
    ports = [{"name": "", "protocol": "TCP", **_given(port)} for port in new.get("ports") or ()]
    return {**new, "endpoints": new.get("endpoints") or [], "ports": ports}


def faults(new: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
    """All validation errors."""
    kind = new.get("addressType")
    causes = list(checks.subdomain("metadata.name", new["metadata"]["name"]))
    causes += checks.one_of("addressType", kind, ADDRESS_TYPES) if kind else [checks.required("addressType")]
    if old is not None and kind != old.get("addressType"):
        causes.append(checks.invalid("addressType", kind, "field is immutable"))
    endpoints = new["endpoints"]
    if len(endpoints) > MOST_ENDPOINTS:
        return [*causes, checks.too_many("endpoints", len(endpoints), MOST_ENDPOINTS)]
    for number, endpoint in enumerate(endpoints):
        causes += _endpoint(f"endpoints[{number}]", endpoint, kind)
    return [*causes, *_ports(new["ports"])]


def _given(port: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in port.items() if value is not None}


def _endpoint(field: str, endpoint: dict[str, Any], kind: str | None) -> Iterator[Cause]:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        yield checks.required(f"{field}.addresses", "must contain at least 1 address")
    if len(addresses) > MOST_ADDRESSES:
        yield checks.too_many(f"{field}.addresses", len(addresses), MOST_ADDRESSES)
    for number, address in enumerate(addresses):
        yield from _address(f"{field}.addresses[{number}]", address, kind)
    if endpoint.get("nodeName") is not None:
        yield from checks.subdomain(f"{field}.nodeName", endpoint["nodeName"])
    if endpoint.get("hostname") is not None:
        yield from checks.label(f"{field}.hostname", endpoint["hostname"])
    yield from _hints(f"{field}.hints", endpoint.get("hints") or {})


def _address(field: str, address: str, kind: str | None) -> Iterator[Cause]:
    if kind == "FQDN":
        yield from checks.subdomain(field, address)
    elif causes := checks.outer_address(field, address):
        yield from causes
    elif kind in ("IPv4", "IPv6") and family_of(address) != kind:
        yield checks.invalid(field, address, f"must be a valid {kind} address")


def _hints(field: str, hints: dict[str, Any]) -> Iterator[Cause]:
    for key in ("forZones", "forNodes"):
        names = [each["name"] for each in hints.get(key) or ()]
        if len(names) > MOST_HINTS:
            yield checks.too_many(f"{field}.{key}", len(names), MOST_HINTS)
        for number, name in enumerate(names):
            if name in names[:number]:
                yield checks.duplicate(f"{field}.{key}[{number}].name", name)


def _ports(ports: list[dict[str, Any]]) -> Iterator[Cause]:
    if len(ports) > MOST_PORTS:
        yield checks.too_many("ports", len(ports), MOST_PORTS)
    names = [port["name"] for port in ports]
    for number, port in enumerate(ports):
        field = f"ports[{number}]"
        if port["name"]:
            yield from checks.label(f"{field}.name", port["name"])
        if port["name"] in names[:number]:
            yield checks.duplicate(f"{field}.name", port["name"])
        yield from checks.one_of(f"{field}.protocol", port["protocol"], PROTOCOLS)
        if port.get("port") is not None:
            yield from checks.port_number(f"{field}.port", port["port"])
