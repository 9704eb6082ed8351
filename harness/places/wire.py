"""Packets as bytes: the first of a connection, its answer, and those that an observer sees.

Each attempt carries a number that survives translation: in the sequence number of TCP, the payload of
UDP, the initiate tag of SCTP (RFC 9293, RFC 768, RFC 9260).  ICMP errors quote it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from crc32c import crc32c

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
_SYN, _RST, _PSH, _ACK = 0x02, 0x04, 0x08, 0x10
_INIT, _INIT_ACK, _ABORT = 1, 2, 6
_QUESTION, _ANSWER = b"question", b"answer.."
_EXTENSIONS = {0, 43, 44, 60}
_ERRORS = {ICMP: {3}, ICMPV6: {1}}


class CapturedPacket(NamedTuple):
    """A packet of attempt `number`: request, segment (data of an established connection), answer, reset, or an ICMP
    error about a request (unreachable).

    `source` and `destination` are (packed address, port), with port 0 for an error.
    """

    kind: str
    number: int
    protocol: int
    source: tuple[bytes, int]
    destination: tuple[bytes, int]


def request(number: int, protocol: int, source: tuple[bytes, int], destination: tuple[bytes, int]) -> bytes:
    """The first packet of a connection, with its IP header."""
    return _packet(protocol, source, destination, _SYN, number, 0)


def segment(number: int, first: int, source: tuple[bytes, int], destination: tuple[bytes, int]) -> bytes:
    """Data of a TCP connection that attempt `first` established; always the same bytes."""
    body = struct.pack("!HHIIBBHHH", source[1], destination[1], first + 1, 2, 5 << 4, _PSH | _ACK, 64240, 0, 0)
    body += _QUESTION + struct.pack("!I", number)
    body = _with_checksum(body, 16, source[0], destination[0], TCP)
    return _header(source[0], destination[0], TCP, len(body)) + body


def reset(number: int, source: tuple[bytes, int], destination: tuple[bytes, int]) -> bytes:
    """A TCP reset of an unknown connection, which conntrack classifies as INVALID."""
    return _packet(TCP, source, destination, _RST | _ACK, 1, number)


def answer(seen: CapturedPacket) -> bytes:
    """A server's answer to a request."""
    return _packet(seen.protocol, seen.destination, seen.source, _SYN | _ACK, 1, seen.number)


def _packet(
    protocol: int, source: tuple[bytes, int], destination: tuple[bytes, int], flags: int, number: int, echoed: int
) -> bytes:
    ports = struct.pack("!HH", source[1], destination[1])
    if protocol == TCP:
        acknowledged = (echoed + 1) & 0xFFFFFFFF if flags & _ACK else 0
        body = ports + struct.pack("!IIBBHHH", number, acknowledged, 5 << 4, flags, 64240, 0, 0)
        body = _with_checksum(body, 16, source[0], destination[0], protocol)
    elif protocol == UDP:
        payload = (_ANSWER if flags & _ACK else _QUESTION) + struct.pack("!I", echoed if flags & _ACK else number)
        body = ports + struct.pack("!HH", 8 + len(payload), 0) + payload
        body = _with_checksum(body, 6, source[0], destination[0], protocol)
    else:
        body = _sctp(ports, flags, number, echoed)
    return _header(source[0], destination[0], protocol, len(body)) + body


def _sctp(ports: bytes, flags: int, number: int, echoed: int) -> bytes:
    """INIT, or INIT ACK under the peer's tag; the checksum is CRC32c over the packet with a zero checksum."""
    if flags & _ACK:
        cookie = struct.pack("!HH4s", 7, 8, b"none")
        chunk = struct.pack("!BBHIIHHI", _INIT_ACK, 0, 20 + len(cookie), number, 65536, 1, 1, 1) + cookie
    else:
        chunk = struct.pack("!BBHIIHHI", _INIT, 0, 20, number, 65536, 1, 1, 1)
    tag = struct.pack("!I", echoed if flags & _ACK else 0)
    return ports + tag + struct.pack("<I", crc32c(ports + tag + bytes(4) + chunk)) + chunk


def _header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    if len(source) == 16:
        return struct.pack("!IHBB", 6 << 28, length, protocol, 64) + source + destination
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, protocol, 0) + source + destination
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:]


def _with_checksum(body: bytes, place: int, source: bytes, destination: bytes, protocol: int) -> bytes:
    pseudo = source + destination + struct.pack("!II", len(body), protocol)
    return body[:place] + struct.pack("!H", _sum(pseudo + body) or 0xFFFF) + body[place + 2 :]


def _sum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def parse(packet: bytes) -> CapturedPacket | None:
    """Parse a packet with its IP header; None if it belongs to no attempt."""
    try:
        split = _split(packet)
        return _classify(*split) if split else None
    except (struct.error, IndexError):
        return None


def _split(packet: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    version = packet[0] >> 4
    if version == 4:
        return packet[9], packet[12:16], packet[16:20], packet[(packet[0] & 15) * 4 :]
    if version != 6:
        return None
    protocol, offset = packet[6], 40
    while protocol in _EXTENSIONS:
        protocol, offset = packet[offset], offset + 8 * (packet[offset + 1] + 1)
    return protocol, packet[8:24], packet[24:40], packet[offset:]


def parse_body(protocol: int, source: bytes, destination: bytes, body: bytes) -> CapturedPacket | None:
    """Like `parse`, for a packet without its IP header."""
    try:
        return _classify(protocol, source, destination, body)
    except (struct.error, IndexError):
        return None


def _classify(protocol: int, source: bytes, destination: bytes, body: bytes) -> CapturedPacket | None:
    if protocol in _ERRORS:
        return _error(protocol, source, destination, body)
    if protocol not in (TCP, UDP, SCTP):
        return None
    here, there = struct.unpack_from("!HH", body)
    kind, number = {TCP: _tcp, UDP: _udp, SCTP: _init}[protocol](body)
    return CapturedPacket(kind, number, protocol, (source, here), (destination, there)) if kind else None


def _error(protocol: int, source: bytes, destination: bytes, body: bytes) -> CapturedPacket | None:
    if body[0] not in _ERRORS[protocol]:
        return None
    quoted = _split(body[8:])
    if quoted is None or quoted[0] not in (TCP, UDP, SCTP):
        return None
    body = quoted[3]
    number = _tcp_number(body) if quoted[0] == TCP else (_udp if quoted[0] == UDP else _init)(body)[1]
    return CapturedPacket("unreachable", number, quoted[0], (source, 0), (destination, 0))


def _tcp_number(body: bytes) -> int:
    (number,) = struct.unpack_from("!I", body, 4)
    return int(number)


def _tcp(body: bytes) -> tuple[str, int]:
    number, acknowledged, _, flags = struct.unpack_from("!IIBB", body, 4)
    if flags & _RST:
        return "reset", (acknowledged - 1) & 0xFFFFFFFF
    if flags & _SYN:
        return ("answer", (acknowledged - 1) & 0xFFFFFFFF) if flags & _ACK else ("request", number)
    data = body[(body[12] >> 4) * 4 :]
    return ("segment", struct.unpack_from("!I", data, 8)[0]) if data[:8] == _QUESTION else ("", 0)


def _udp(body: bytes) -> tuple[str, int]:
    kind = {_QUESTION: "request", _ANSWER: "answer"}.get(body[8:16], "")
    return kind, struct.unpack_from("!I", body, 16)[0] if kind else 0


def _init(body: bytes) -> tuple[str, int]:
    if body[12] == _INIT:
        return "request", struct.unpack_from("!I", body, 16)[0]
    if body[12] == _INIT_ACK:
        return "answer", struct.unpack_from("!I", body, 4)[0]
    return ("reset", struct.unpack_from("!I", body, 4)[0]) if body[12] == _ABORT else ("", 0)
