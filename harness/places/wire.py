"""Packets as bytes: the first of a connection, its answer, and what an observer sees pass by.

Each attempt carries a number that survives translation: in the sequence number of TCP, the payload of
UDP, the initiate tag of SCTP (RFC 9293, RFC 768, RFC 9260).  ICMP errors quote it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
_SYN, _RST, _ACK = 0x02, 0x04, 0x10
_INIT, _INIT_ACK, _ABORT = 1, 2, 6
_QUESTION, _ANSWER = b"question", b"answer.."
_EXTENSIONS = {0, 43, 44, 60}
_ERRORS = {ICMP: {3}, ICMPV6: {1}}


class Seen(NamedTuple):
    """A packet of attempt `number`: request, answer, reset, or an ICMP error about a request.

    `source` and `destination` are (packed address, port), ports 0 for an error.
    """

    kind: str
    number: int
    protocol: int
    source: tuple[bytes, int]
    destination: tuple[bytes, int]


def request(number: int, protocol: int, source: tuple[bytes, int], destination: tuple[bytes, int]) -> bytes:
    """The first packet of a connection, with its IP header."""
    return _packet(protocol, source, destination, _SYN, number, 0)


def reset(number: int, source: tuple[bytes, int], destination: tuple[bytes, int]) -> bytes:
    """A TCP reset of a connection that nobody knows, which conntrack takes for INVALID."""
    return _packet(TCP, source, destination, _RST | _ACK, 1, number)


def answer(seen: Seen) -> bytes:
    """What a server answers to a request."""
    return _packet(seen.protocol, seen.destination, seen.source, _SYN | _ACK, 1, seen.number)


def _packet(protocol: int, source, destination, flags: int, number: int, echoed: int) -> bytes:
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
    """INIT, or INIT ACK under the peer's tag; the checksum is CRC32c over the packet with a zero in its place."""
    if flags & _ACK:
        cookie = struct.pack("!HH4s", 7, 8, b"none")
        chunk = struct.pack("!BBHIIHHI", _INIT_ACK, 0, 20 + len(cookie), number, 65536, 1, 1, 1) + cookie
    else:
        chunk = struct.pack("!BBHIIHHI", _INIT, 0, 20, number, 65536, 1, 1, 1)
    tag = struct.pack("!I", echoed if flags & _ACK else 0)
    return ports + tag + struct.pack("<I", _crc32c(ports + tag + bytes(4) + chunk)) + chunk


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
    return ~total & 0xFFFF


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _crc_table()


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def parse(packet: bytes) -> Seen | None:
    """What a packet with its IP header is to us; None for anything that is no attempt's."""
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


def parse_body(protocol: int, source: bytes, destination: bytes, body: bytes) -> Seen | None:
    """As `parse`, for a packet whose IP header was taken off."""
    try:
        return _classify(protocol, source, destination, body)
    except (struct.error, IndexError):
        return None


def _classify(protocol: int, source: bytes, destination: bytes, body: bytes) -> Seen | None:
    if protocol in _ERRORS:
        return _error(protocol, source, destination, body)
    if protocol not in (TCP, UDP, SCTP):
        return None
    here, there = struct.unpack_from("!HH", body)
    kind, number = {TCP: _tcp, UDP: _udp, SCTP: _init}[protocol](body)
    return Seen(kind, number, protocol, (source, here), (destination, there)) if kind else None


def _error(protocol: int, source: bytes, destination: bytes, body: bytes) -> Seen | None:
    if body[0] not in _ERRORS[protocol]:
        return None
    quoted = _split(body[8:])
    if quoted is None or quoted[0] not in (TCP, UDP, SCTP):
        return None
    number = {TCP: _tcp_number, UDP: _udp, SCTP: _init}[quoted[0]](quoted[3])
    number = number if isinstance(number, int) else number[1]
    return Seen("unreachable", number, quoted[0], (source, 0), (destination, 0))


def _tcp_number(body: bytes) -> int:
    return struct.unpack_from("!I", body, 4)[0]


def _tcp(body: bytes) -> tuple[str, int]:
    number, acknowledged, _, flags = struct.unpack_from("!IIBB", body, 4)
    if flags & _RST:
        return "reset", (acknowledged - 1) & 0xFFFFFFFF
    if flags & _SYN:
        return ("answer", (acknowledged - 1) & 0xFFFFFFFF) if flags & _ACK else ("request", number)
    return "", 0


def _udp(body: bytes) -> tuple[str, int]:
    kind = {_QUESTION: "request", _ANSWER: "answer"}.get(body[8:16], "")
    return kind, struct.unpack_from("!I", body, 16)[0] if kind else 0


def _init(body: bytes) -> tuple[str, int]:
    if body[12] == _INIT:
        return "request", struct.unpack_from("!I", body, 16)[0]
    if body[12] == _INIT_ACK:
        return "answer", struct.unpack_from("!I", body, 4)[0]
    return ("reset", struct.unpack_from("!I", body, 4)[0]) if body[12] == _ABORT else ("", 0)
