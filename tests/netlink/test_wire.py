"""Any input from a socket is decoded or rejected: no other exception, and no endless loop."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kernel.netlink import ErrorKind, NetlinkError, attribute, attributes, message, nested, nfnetlink
from engine.kernel.netlink.wire import HEADER_BYTES, flagged, messages, page, refusal, spans

SMALL = st.binary(max_size=40)


@given(st.lists(st.tuples(st.integers(16, 0xFFFF), st.integers(0, 0xFFFF), SMALL), max_size=6))
def test_messages_survive_a_round_trip(made):
    data = b"".join(message(kind, flags, body + bytes(-len(body) % 4)) for kind, flags, body in made)
    found = messages(data)
    assert [(m.kind, m.flags, m.body) for m in found] == [(k, f | 1, b + bytes(-len(b) % 4)) for k, f, b in made]
    bodies, _, last = page(data, 0)
    assert [data[start:end] for start, end in bodies] == [m.body for m in found] and last is None
    assert page(data, 1)[0] == []


@given(st.binary(max_size=200))
def test_anything_is_read_or_refused(data):
    for read in (spans, lambda found: page(found, 0)):
        with contextlib.suppress(NetlinkError):
            read(data)
    attributes(data)


@given(st.binary(min_size=4, max_size=120), st.integers(0, 0xFFFF))
def test_every_error_is_decoded(body, flags):
    data = bytes(16) + body
    found = refusal(data, (2, flags, 0, HEADER_BYTES, len(data)), 3, b"")
    assert found.index == 3 and isinstance(found.kind, ErrorKind) and str(found)


@pytest.mark.parametrize("data", [bytes(5), bytes(16), struct.pack("=IHHII", 4000, 16, 0, 0, 0)])
def test_truncated_messages_are_rejected(data):
    with pytest.raises(NetlinkError, match="truncated message"):
        spans(data)


@given(st.dictionaries(st.integers(1, 0x3FFF), SMALL, max_size=6))
def test_attributes_survive_a_round_trip(given_):
    packed = b"".join(attribute(kind, payload) for kind, payload in given_.items())
    assert attributes(packed) == given_
    assert attributes(nested(5, packed)) == {5: packed}


def test_flags_are_added_and_nothing_else_is_changed():
    request = nfnetlink(0x0A01, 0x400, 2, b"payload!")
    changed = flagged(request, 4)
    assert struct.unpack_from("=H", changed, 6)[0] == 0x405
    assert changed[:6] + changed[8:] == request[:6] + request[8:]
