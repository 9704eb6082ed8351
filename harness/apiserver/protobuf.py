"""Decodes protobuf, which typed Go clients use for small writes: Events, Namespaces, Services, evictions, deletes.

Objects are always answered in JSON, which such clients accept, but requests are not negotiated.  Only the fields in
these tables are read; their numbers are those of Kubernetes' generated.proto files, which never change.  Other kinds
get 415.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

MAGIC = b"k8s\x00"
STR, INT, BOOL, TIME, MICRO, INT_OR_STRING = "string", "int", "bool", "time", "micro time", "int or string"
GIVEN_INT, GIVEN_BOOL = "given int", "given bool"
"""Pointers in Go: sent only if set, so that 0 and false are values; in other fields they mean absent."""

NUMBERS = (INT, BOOL, GIVEN_INT, GIVEN_BOOL)

Table = dict[int, tuple[str, Any]]
"""Field number to JSON name and type: a word above, a Table, [type] for lists, {type} for string maps."""

OWNER: Table = {
    1: ("kind", STR), 3: ("name", STR), 4: ("uid", STR), 5: ("apiVersion", STR), 6: ("controller", BOOL),
    7: ("blockOwnerDeletion", BOOL),
}  # fmt: skip
META: Table = {
    1: ("name", STR), 2: ("generateName", STR), 3: ("namespace", STR), 5: ("uid", STR), 6: ("resourceVersion", STR),
    7: ("generation", INT), 8: ("creationTimestamp", TIME), 11: ("labels", {STR}), 12: ("annotations", {STR}),
    13: ("ownerReferences", [OWNER]), 14: ("finalizers", [STR]),
}  # fmt: skip
REFERENCE: Table = {
    1: ("kind", STR), 2: ("namespace", STR), 3: ("name", STR), 4: ("uid", STR), 5: ("apiVersion", STR),
    6: ("resourceVersion", STR), 7: ("fieldPath", STR),
}  # fmt: skip
SOURCE: Table = {1: ("component", STR), 2: ("host", STR)}
SERIES: Table = {1: ("count", INT), 2: ("lastObservedTime", MICRO)}
EVENT: Table = {
    1: ("metadata", META), 2: ("involvedObject", REFERENCE), 3: ("reason", STR), 4: ("message", STR),
    5: ("source", SOURCE), 6: ("firstTimestamp", TIME), 7: ("lastTimestamp", TIME), 8: ("count", INT),
    9: ("type", STR), 10: ("eventTime", MICRO), 11: ("series", SERIES), 12: ("action", STR),
    13: ("related", REFERENCE), 14: ("reportingComponent", STR), 15: ("reportingInstance", STR),
}  # fmt: skip
NEW_EVENT: Table = {
    1: ("metadata", META), 2: ("eventTime", MICRO), 3: ("series", SERIES), 4: ("reportingController", STR),
    5: ("reportingInstance", STR), 6: ("action", STR), 7: ("reason", STR), 8: ("regarding", REFERENCE),
    9: ("related", REFERENCE), 10: ("note", STR), 11: ("type", STR), 12: ("deprecatedSource", SOURCE),
    13: ("deprecatedFirstTimestamp", TIME), 14: ("deprecatedLastTimestamp", TIME), 15: ("deprecatedCount", INT),
}  # fmt: skip
PORT: Table = {
    1: ("name", STR), 2: ("protocol", STR), 3: ("port", INT), 4: ("targetPort", INT_OR_STRING),
    5: ("nodePort", INT), 6: ("appProtocol", STR),
}  # fmt: skip
AFFINITY: Table = {1: ("clientIP", {1: ("timeoutSeconds", GIVEN_INT)})}
SERVICE_SPEC: Table = {
    1: ("ports", [PORT]), 2: ("selector", {STR}), 3: ("clusterIP", STR), 4: ("type", STR), 5: ("externalIPs", [STR]),
    7: ("sessionAffinity", STR), 8: ("loadBalancerIP", STR), 9: ("loadBalancerSourceRanges", [STR]),
    10: ("externalName", STR), 11: ("externalTrafficPolicy", STR), 12: ("healthCheckNodePort", INT),
    13: ("publishNotReadyAddresses", BOOL), 14: ("sessionAffinityConfig", AFFINITY), 17: ("ipFamilyPolicy", STR),
    18: ("clusterIPs", [STR]), 19: ("ipFamilies", [STR]), 20: ("allocateLoadBalancerNodePorts", GIVEN_BOOL),
    21: ("loadBalancerClass", STR), 22: ("internalTrafficPolicy", STR), 23: ("trafficDistribution", STR),
}  # fmt: skip
PRECONDITIONS: Table = {1: ("uid", STR), 2: ("resourceVersion", STR)}
ACCESS: Table = {
    1: ("resourceAttributes", {
        1: ("namespace", STR), 2: ("verb", STR), 3: ("group", STR), 4: ("version", STR), 5: ("resource", STR),
        6: ("subresource", STR), 7: ("name", STR),
    }),
    2: ("nonResourceAttributes", {1: ("path", STR), 2: ("verb", STR)}),
}  # fmt: skip
DELETE_OPTIONS: Table = {
    1: ("gracePeriodSeconds", GIVEN_INT),
    2: ("preconditions", PRECONDITIONS),
    5: ("dryRun", [STR]),
}

TABLES: dict[tuple[str, str], Table] = {
    ("v1", "Event"): EVENT,
    ("events.k8s.io/v1", "Event"): NEW_EVENT,
    ("v1", "Namespace"): {1: ("metadata", META)},
    ("v1", "Service"): {1: ("metadata", META), 2: ("spec", SERVICE_SPEC)},
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): {1: ("metadata", META), 2: ("spec", ACCESS)},
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): {
        1: ("metadata", META),
        2: ("spec", {1: ("namespace", STR)}),
    },
    ("policy/v1", "Eviction"): {1: ("metadata", META), 2: ("deleteOptions", DELETE_OPTIONS)},
}
UNKNOWN: Table = {1: ("type", {1: ("apiVersion", STR), 2: ("kind", STR)}), 2: ("raw", "bytes")}


def decode(body: bytes) -> dict[str, Any]:
    """The manifest in a protobuf body; KeyError for a kind without a table, ValueError if invalid."""
    if not body.startswith(MAGIC):
        raise ValueError("the body does not have the Kubernetes protobuf prefix")
    envelope = _message(body[len(MAGIC) :], UNKNOWN)
    kind = envelope.get("type", {})
    name = kind.get("apiVersion", ""), kind.get("kind", "")
    table = DELETE_OPTIONS if name[1] == "DeleteOptions" else TABLES[name]
    return {"apiVersion": name[0], "kind": name[1]} | _message(envelope.get("raw", b""), table)


def encoded(number: int, data: bytes) -> bytes:
    """A field that contains bytes, a text or a message."""
    made, rest = bytearray([number << 3 | 2]), len(data)
    while rest > 0x7F:
        made.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*made, rest]) + data


def _message(data: bytes, table: Table) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _fields(data):
        if number not in table:
            continue
        name, kind = table[number]
        if isinstance(value, int) != (kind in NUMBERS if isinstance(kind, str) else False):
            raise ValueError(f"{name} has the wrong wire type")
        if isinstance(kind, list):
            found.setdefault(name, []).append(_value(value, kind[0]))
        elif isinstance(kind, set):
            entry = _message(value, {1: ("key", STR), 2: ("value", STR)})
            found.setdefault(name, {})[entry.get("key", "")] = entry.get("value", "")
        else:
            plain = _value(value, kind)
            if plain not in ("", None, 0) or kind in (GIVEN_INT, GIVEN_BOOL):
                found[name] = plain
    return found


def _value(value: Any, kind: Any) -> Any:
    if isinstance(kind, dict):
        return _message(value, kind)
    match kind:
        case "string":
            return value.decode()
        case "bool" | "given bool":
            return bool(value)
        case "int" | "given int":
            return value - (1 << 64) if value >> 63 else value
        case "time" | "micro time":
            return _time(_message(value, {1: ("seconds", INT), 2: ("nanos", INT)}), kind)
        case "int or string":
            either = _message(value, {1: ("type", INT), 2: ("int", INT), 3: ("string", STR)})
            return either.get("string", "") if either.get("type") else either.get("int", 0)
    return value


def _time(parts: dict[str, int], kind: str) -> str | None:
    seconds = parts.get("seconds", 0)
    if seconds <= 0:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    fraction = f".{parts.get('nanos', 0) // 1000:06d}" if kind == MICRO else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers with their values, bytes or numbers; ValueError if the data is truncated."""
    place = 0
    value: int | bytes
    while place < len(data):
        tag, place = _varint(data, place)
        match tag & 7:
            case 0:
                value, place = _varint(data, place)
            case 2:
                size, place = _varint(data, place)
                value, place = data[place : place + size], place + size
            case 1 | 5 as wire:
                size = 8 if wire == 1 else 4
                value, place = data[place : place + size], place + size
            case wire:
                raise ValueError(f"wire type {wire} is not used by Kubernetes")
        if place > len(data):
            raise ValueError("the body is cut off")
        yield tag >> 3, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("the body is cut off")
        byte = data[place]
        value, place = value | (byte & 0x7F) << shift, place + 1
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than 64 bits")
