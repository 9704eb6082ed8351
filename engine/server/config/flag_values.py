"""Kinds of flag values, parsed as by Go's flag library; a ValueError has the reason."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from engine.config import parse_version
from engine.server.config.configuration import VModule
from engine.server.config.duration import Duration
from engine.server.config.field_errors import quoted
from engine.server.config.netaddr import parse_ip, split_host_port
from engine.server.config.port_range import is_port_range
from engine.server.config.quantity import Quantity

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_NUMBER = re.compile(
    r"[-+]?(?:0[xX](?:_?[0-9a-fA-F])+|0[oO]?(?:_?[0-7])+|0[bB](?:_?[01])+|0|[1-9](?:_?[0-9])*)", re.ASCII
)


class ValueKind(NamedTuple):
    """A kind of value: its name in the help, its parser, and how repeated values are joined."""

    metavar: str
    read: Callable[[str], Any]
    join: Callable[[Any, Any], Any] | None = None


def read_bool(text: str) -> bool:
    """Go's spellings of true and false."""
    if text not in _TRUE + _FALSE:
        raise ValueError(f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax")
    return text in _TRUE


def read_int32(text: str) -> int:
    """A decimal, hexadecimal, octal or binary number of 32 bits."""
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"strconv.ParseInt: parsing {quoted(text)}: invalid syntax")
    bare = text.lstrip("+-")
    octal = re.match(r"0[0-7_]", bare) is not None
    value = int(bare, 8 if octal else 0) * (-1 if text[0] == "-" else 1)
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"strconv.ParseInt: parsing {quoted(text)}: value out of range")
    return value


def read_level(text: str) -> int:
    """A verbosity, from 0 to 2147483647."""
    if re.fullmatch(r"\d+", text, re.ASCII) is None:
        raise ValueError(f"strconv.ParseUint: parsing {quoted(text)}: invalid syntax")
    if len(text) > 10 or int(text) >= 2**31:
        raise ValueError(f"strconv.ParseUint: parsing {quoted(text)}: value out of range")
    return int(text)


def read_float(text: str) -> float:
    """A finite decimal number."""
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?", text, re.ASCII) is None:
        raise ValueError(f"strconv.ParseFloat: parsing {quoted(text)}: invalid syntax")
    return float(text)


def read_list(text: str) -> tuple[str, ...]:
    """Comma-separated texts; those that contain commas are quoted."""
    return tuple(next(csv.reader([text]), ()))


def read_gates(text: str) -> dict[str, bool]:
    """Comma-separated Name=bool."""
    gates = {}
    for pair in filter(None, text.split(",")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError("malformed pair, expect string=bool")
        try:
            gates[name.strip()] = read_bool(value.strip())
        except ValueError as error:
            raise ValueError(f"invalid value of {name.strip()}: {value.strip()}, err: {error}") from None
    return gates


def read_ip(text: str) -> str:
    """An IP address's text."""
    if parse_ip(text) is None:
        raise ValueError(f"{quoted(text)} is not a valid IP address")
    return text


def read_ip_port(text: str) -> str:
    """ "IP" or "IP:port" (CLI-04); empty disables."""
    if not text or parse_ip(text) is not None:
        return text
    parts = split_host_port(text)
    if parts is None:
        raise ValueError(f"{quoted(text)} is not in a valid format (ip or ip:port)")
    host, port = parts
    if parse_ip(host) is None:
        raise ValueError(f"{quoted(host)} is not a valid IP address")
    if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65535:
        raise ValueError(f"{quoted(port)} is not a valid number")
    return text


def read_port_range(text: str) -> str:
    """A port range's text."""
    if not is_port_range(text):
        raise ValueError(f"{quoted(text)} is not a valid port range such as 300-2000")
    return text


def read_vmodule(text: str) -> tuple[VModule, ...]:
    """Comma-separated pattern=N."""
    items = []
    for item in filter(None, text.split(",")):
        pattern, _, level = item.partition("=")
        if not pattern or not level or "=" in level:
            raise ValueError(f"{quoted(item)} does not have the pattern=N format")
        items.append(VModule(pattern, read_level(level)))
    return tuple(items)


TEXT = ValueKind("string", str)
BOOL = ValueKind("bool", read_bool)
INT32 = ValueKind("int32", read_int32)
LEVEL = ValueKind("Level", read_level)
KUBE_VERSION = ValueKind("version", parse_version)
FLOAT = ValueKind("float", read_float)
DURATION = ValueKind("duration", Duration.parse)
QUANTITY = ValueKind("quantity", Quantity.parse)
IP = ValueKind("ip", read_ip)
IP_PORT = ValueKind("ipport", read_ip_port)
PORT_RANGE = ValueKind("port-range", read_port_range)
LIST = ValueKind("strings", read_list, lambda before, more: before + more)
GATES = ValueKind("mapStringBool", read_gates, lambda before, more: before | more)
VMODULE = ValueKind("pattern=N,...", read_vmodule, lambda before, more: before + more)
