"""Elements as `nft` writes them: raw register bytes to text, by the name of the set they belong to."""

from __future__ import annotations

import struct

from engine.addresses import format_address
from engine.model import PROTOCOLS

_PROTOCOL_NAMES = {number: name.lower() for name, number in PROTOCOLS.items()}


def element_text(set_name: str, key: bytes, data: bytes) -> str:
    """`10.96.0.1 . tcp . 80 : 3:1` and the like."""
    text = _key(set_name, key)
    if not data:
        return text
    return f"{text} : {_target(data) if len(data) > 4 else _priority(data)}"


def _key(set_name: str, key: bytes) -> str:
    if set_name.endswith("-endpoints") or set_name == "affinity-slots":
        return f"{_priority(key[:4])} . {struct.unpack('=I', key[4:])[0]}"
    if set_name.startswith("affinity-"):
        return _priority(key)
    if set_name in ("cluster-ips", "nodeport-ips"):
        return format_address(key)
    if set_name == "equal-bytes":
        half = len(key) // 2
        return f"{format_address(key[:half])} . {format_address(key[half:])}"
    if set_name == "firewall-allowed":
        half = len(key) // 2
        size = (half - 8) // 2
        first, last = key[:half], key[half:]
        source = f"{format_address(first[size + 8 :])}-{format_address(last[size + 8 :])}"
        return f"{_destination(first[: size + 8])} . {source}"
    return _destination(key)


def _destination(key: bytes) -> str:
    """[address .] protocol . port, each in registers of four bytes."""
    parts = [format_address(key[:-8])] if len(key) > 8 else []
    return " . ".join([*parts, _PROTOCOL_NAMES[key[-8]], str(key[-4] << 8 | key[-3])])


def _target(data: bytes) -> str:
    return f"{format_address(data[:-4])} . {data[-4] << 8 | data[-3]}"


def _priority(data: bytes) -> str:
    value = struct.unpack("=I", data)[0]
    return f"{value >> 16:x}:{value & 0xFFFF:x}"
