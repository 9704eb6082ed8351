"""Derives the same row for IPv6, and for UDP or SCTP, as rules apply to all of them.  Pure."""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Callable
from typing import Any

from harness.conformance.corpus.clusters import Json
from harness.conformance.corpus.row import Row

_BLOCKS = {"10.0.0.0/8": "fd00:10::/32", "172.30.0.0/16": "fd00:96::/112", "203.0.113.0/25": "2600::/121"}
_BLOCKS |= {"192.168.0.0/24": "2001:db8::/120", "10.0.0.0/24": "fd00:10::/64", "192.168.1.0/24": "2001:db8:1::/120"}
_PREFIXES = {"203.0.113": "2600::", "198.51.100": "2600:1::", "1.2.3": "2600:2::", "192.168.1": "2001:db8:1::"}
_PREFIXES |= {"192.168.0": "2001:db8::", "192.168.99": "2001:db8:99::"}
_OF_A_FAMILY = {"ipFamily", "clusterCIDR", "nodePortAddresses", "localAddresses"}
_NODE = {"192.168.0.2": "2001:db8::1"}


class Untranslatable(ValueError):
    """A row about something that does not exist in IPv6."""


def address(text: str) -> str:
    """Its twin in IPv6."""
    head, _, last = text.rpartition(".")
    if text in _NODE:
        return _NODE[text]
    if head in _PREFIXES:
        return f"{_PREFIXES[head]}{int(last):x}"
    first, second, third = (int(part) for part in head.split("."))
    if first == 10:
        return f"fd00:10:{second:x}:{third:x}::{int(last):x}"
    if (first, second) in ((172, 30), (172, 29)):
        return f"fd00:{'96' if second == 30 else '95'}::{third << 8 | int(last):x}"
    raise Untranslatable(text)


def _text(text: str) -> str:
    """An address, a block, an endpoint or a word."""
    if text in ("IPv4", "IPv6"):
        return "IPv6"
    if text in _BLOCKS:
        return _BLOCKS[text]
    host, colon, port = text.rpartition(":")
    if colon and _is_address(host):
        return f"[{address(host)}]:{port}"
    if _is_address(text):
        return address(text)
    if ":" in text or "/" in text and _is_address(text.partition("/")[0]):
        raise Untranslatable(text)
    return text


def _is_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


def _walked(value: Any, change: Callable[[str], str]) -> Any:
    """The value with all addresses mapped; names, labels and other text stay."""
    if isinstance(value, dict):
        same = ("metadata", "name", "kind", "hints", "nodeName", "from", "protocol", "op", "namespace")
        return {key: each if key in same else _walked(each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [_walked(each, change) for each in value]
    return change(value) if isinstance(value, str) else value


def in_ipv6(row: Row) -> Row | None:
    """The row's twin; None if it is about both families, loopback, or the text of IPv4 addresses (SVC-06)."""
    if row.config.keys() & _OF_A_FAMILY or "SVC-06" in row.ids:
        return None
    try:
        objects, flows = (_walked(part, _text) for part in (row.objects, row.flows))
        then = tuple((_walked(ops, _text), _walked(wanted, _text)) for ops, wanted in row.then)
    except Untranslatable:
        return None
    for wanted in (flows, *(wanted for _, wanted in then)):
        _renamed(wanted)
    return row._replace(
        name=f"{row.name}, in IPv6", objects=objects, flows=flows, then=then, config=row.config | {"ipFamily": "IPv6"}
    )


def _renamed(flows: list[Json]) -> None:
    for flow in flows:
        if not flow["name"].startswith(("stand:", "drain:")):
            flow["name"] = f"{flow['source_ip']} to {flow['dest_ip']} port {flow['dest_port']}"


def over(row: Row, protocol: str) -> Row | None:
    """The row's twin over another protocol; None if it names protocols itself, or counts node ports."""
    parts = copy.deepcopy((row.objects, row.flows, row.then))
    if any(flow["protocol"] != "TCP" for flow in _flows(parts)):
        return None
    for manifest in _objects(parts):
        ports = manifest.get("ports") or (manifest.get("spec") or {}).get("ports") or ()
        if any(port.get("protocol", "TCP") != "TCP" for port in ports):
            return None
        for port in ports:
            port["protocol"] = protocol
    for flow in _flows(parts):
        flow["protocol"] = protocol
    return row._replace(name=f"{row.name}, over {protocol}", objects=parts[0], flows=parts[1], then=parts[2])


def _flows(parts: tuple[Any, Any, Any]) -> list[Json]:
    return [*parts[1], *(flow for _, wanted in parts[2] for flow in wanted)]


def _objects(parts: tuple[Any, Any, Any]) -> list[Json]:
    """Cached, as rows share them."""
    found = [*parts[0], *(op["object"] for ops, _ in parts[2] for op in ops if "object" in op)]
    return list({id(each): each for each in found}.values())
