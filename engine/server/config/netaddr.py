"""Parsing of addresses and ports with Go's semantics."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.addresses import parse_address, parse_network
from engine.model import Address, Network

_HOST_PORT = re.compile(r"\[([^\[\]]*)\]:([^:\[\]]*)|([^:\[\]]*):([^:\[\]]*)")
_MAPPED = bytes(10) + b"\xff\xff"


def parse_ip(text: str) -> Address | None:
    """A packed address, an IPv4-mapped one as IPv4; None for anything else."""
    try:
        address = parse_address(text)
    except ValueError:
        return None
    return address[-4:] if _family(address) == 4 else address


def parse_cidr(text: str) -> Network | None:
    """A CIDR block; None for anything else, including surrounding blanks."""
    try:
        return parse_network(text) if text == text.strip() else None
    except ValueError:
        return None


def split_host_port(text: str) -> tuple[str, str] | None:
    """Host and port of "host:port" or "[host]:port"; None for anything else."""
    form = _HOST_PORT.fullmatch(text)
    return None if form is None else (form[1] or form[3] or "", form[2] or form[4] or "")


def port_number(text: str) -> int | None:
    """A port from 1 to 65535; None for anything else."""
    number = int(text) if re.fullmatch(r"\+?\d{1,9}", text, re.ASCII) else 0
    return number if 1 <= number <= 65535 else None


def with_port(text: str, port: int) -> str:
    """Add a port to an IP; text that has one, or is not an IP, is returned unchanged."""
    address = parse_ip(text)
    if address is None or split_host_port(text) is not None:
        return text
    return f"{text}:{port}" if len(address) == 4 else f"[{text}]:{port}"


def families(cidrs: Sequence[str]) -> list[int | None]:
    """The family of each CIDR block, None if the text is not one."""
    return [None if block is None else _family(block.address) for block in map(parse_cidr, cidrs)]


def _family(address: Address) -> int:
    return 4 if len(address) == 4 or address.startswith(_MAPPED) else 6


def is_dual_stack(cidrs: Sequence[str]) -> bool:
    """Whether all texts are CIDR blocks and both families occur."""
    return set(families(cidrs)) == {4, 6}
