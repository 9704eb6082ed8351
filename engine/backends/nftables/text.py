"""Text for `nft`: blocks of a table, and elements by the name of their set."""

from __future__ import annotations

import struct

from engine.addresses import format_address
from engine.backends.nftables.numbers import priority
from engine.model import PROTOCOL_NAMES


def block(kind: str, name: str, *lines: str) -> str:
    """A chain, set or map of a table."""
    return f"  {kind} {name} {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"


def element_text(set_name: str, key: bytes, data: bytes) -> str:
    """An element, such as `10.96.0.1 . tcp . 80 : 3:1`."""
    text = _key(set_name, key)
    if not data:
        return text
    return f"{text} : {_target(data) if len(data) > 4 else _priority(data)}"


def _key(set_name: str, key: bytes) -> str:
    if set_name.endswith("-endpoints") or set_name == "sticky-slots":
        return f"{_priority(key[:4])} . {struct.unpack('=I', key[4:])[0]}"
    if set_name.startswith("sticky-"):
        return _priority(key)
    if set_name in ("cluster-ips", "nodeport-ips"):
        return format_address(key)
    if set_name == "equal-bytes":
        half = len(key) // 2
        return f"{format_address(key[:half])} . {format_address(key[half:])}"
    if set_name == "hairpin-connections":
        half = (len(key) - 8) // 2
        return f"{format_address(key[:half])} . {_destination(key[half:])}"
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
    return " . ".join([*parts, PROTOCOL_NAMES[key[-8]], str(key[-4] << 8 | key[-3])])


def _target(data: bytes) -> str:
    return f"{format_address(data[:-4])} . {data[-4] << 8 | data[-3]}"


def _priority(data: bytes) -> str:
    return priority(struct.unpack("=I", data)[0])
