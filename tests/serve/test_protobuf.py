"""Protobuf bodies: what Go clients send, byte for byte, and any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.apiserver.openapi import version2_protobuf
from harness.apiserver.protobuf import MAGIC, decode


def field(number: int, value: bytes | str | int) -> bytes:
    """One encoded field: a length-delimited one, or a varint."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first."""
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def body(api_version: str, kind: str, raw: bytes) -> bytes:
    """The envelope around an object."""
    return MAGIC + field(1, field(1, api_version) + field(2, kind)) + field(2, raw)


def test_an_event_as_kube_proxy_sends_it():
    meta = field(1, "node-1.17a") + field(3, "default") + field(5, "") + field(8, b"")
    raw = field(1, meta) + field(2, field(1, 1893456000) + field(2, 5000)) + field(4, "kube-proxy") + field(5, "node-1")
    raw += field(6, "StartKubeProxy") + field(7, "Starting") + field(8, field(1, "Node") + field(3, "node-1"))
    raw += field(10, "") + field(11, "Normal") + field(12, b"") + field(15, 0)
    assert decode(body("events.k8s.io/v1", "Event", raw)) == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "node-1.17a", "namespace": "default"},
        "eventTime": "2030-01-01T00:00:00.000005Z",
        "reportingController": "kube-proxy",
        "reportingInstance": "node-1",
        "action": "StartKubeProxy",
        "reason": "Starting",
        "regarding": {"kind": "Node", "name": "node-1"},
        "type": "Normal",
        "deprecatedSource": {},
    }


def test_a_version_of_any_length_in_openapi():
    for version in ("v1.35.1", "v1.35.1+" + "x" * 300):
        info = field(1, "kube-proxy-harness") + field(2, version)
        assert version2_protobuf(version) == field(1, "2.0") + field(2, info) + field(8, "") + field(9, "")


def test_a_service():
    port = field(2, "TCP") + field(3, 80) + field(4, field(1, 1) + field(2, 0) + field(3, "http")) + field(5, 0)
    spec = field(1, port) + field(2, field(1, "app") + field(2, "web")) + field(13, 0) + field(18, "a") + field(18, "b")
    made = decode(body("v1", "Service", field(1, field(1, "web")) + field(2, spec)))
    assert made["spec"] == {
        "ports": [{"protocol": "TCP", "port": 80, "targetPort": "http"}],
        "selector": {"app": "web"},
        "clusterIPs": ["a", "b"],
    }


def test_a_delete_that_waits_for_nothing():
    made = decode(body("policy/v1", "Eviction", field(1, field(1, "p")) + field(2, field(1, 0))))
    assert made["deleteOptions"] == {"gracePeriodSeconds": 0}
    assert decode(body("v1", "DeleteOptions", field(1, 7)))["gracePeriodSeconds"] == 7


def test_kinds_without_a_table():
    with pytest.raises(KeyError):
        decode(body("v1", "Pod", b""))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data):
    for wrapped in (data, MAGIC + data, body("v1", "Event", data)):
        try:
            assert decode(wrapped)["kind"] == "Event"
        except (KeyError, ValueError):
            pass
