"""How much a proxy has programmed: rules, and elements of sets and maps, counted in the kernel of one namespace."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Callable
from typing import NamedTuple

from engine.kernel.netlink import NETFILTER, attributes, nfnetlink, text
from engine.kernel.netlink.connection import Connection
from engine.kernel.netlink.errors import NetlinkError

_GETRULE, _GETSET, _GETSETELEM = 0x0A07, 0x0A0A, 0x0A0D
_TABLE, _NAME, _ELEMENTS = 1, 2, 3
_FAMILY_BYTES = 4
Run = Callable[[list[str], bytes], subprocess.CompletedProcess[bytes]]


class Size(NamedTuple):
    """Rules of nf_tables and iptables-legacy, and virtual servers; elements, and destinations of virtual servers."""

    rules: int
    elements: int


def size(make_socket: Callable[[int, int, int], socket.socket], run: Run) -> Size:
    """Everything in the namespace in which these act."""
    found = [_nf_tables(make_socket), *(_legacy(run, tool) for tool in ("iptables", "ip6tables")), _servers(run)]
    return Size(sum(each.rules for each in found), sum(each.elements for each in found))


def _nf_tables(make_socket: Callable[[int, int, int], socket.socket]) -> Size:
    with make_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as sock:
        connection = Connection(sock)
        try:
            rules = len(connection.dump(nfnetlink(_GETRULE, 0, 0, b"")))
            sets = connection.dump(nfnetlink(_GETSET, 0, 0, b""))
            return Size(rules, sum(_elements(connection, body) for body in sets))
        except NetlinkError:  # no nf_tables in this kernel
            return Size(0, 0)


def _elements(connection: Connection, body: bytes) -> int:
    names = attributes(body[_FAMILY_BYTES:])
    table, name = (names[kind].rstrip(b"\0").decode() for kind in (_TABLE, _NAME))
    request = nfnetlink(_GETSETELEM, 0, body[0], text(_TABLE, table) + text(_NAME, name))
    lists = (attributes(part[_FAMILY_BYTES:]).get(_ELEMENTS, b"") for part in connection.dump(request))
    return sum(map(_counted, lists))


def _counted(data: bytes) -> int:
    """Attributes in a list, by their headers alone."""
    count = offset = 0
    while offset + 4 <= len(data):
        (length,) = struct.unpack_from("=H", data, offset)
        offset += max(4, (length + 3) & ~3)
        count += 1
    return count


def _legacy(run: Run, tool: str) -> Size:
    """Only if the namespace has tables: asking for one would create it."""
    names = run(["cat", f"/proc/net/{'ip6' if tool == 'ip6tables' else 'ip'}_tables_names"], b"").stdout.split()
    if not names or not shutil.which(f"{tool}-legacy-save"):
        return Size(0, 0)
    return Size(run([f"{tool}-legacy-save"], b"").stdout.count(b"\n-A "), 0)


def _servers(run: Run) -> Size:
    lines = run(["cat", "/proc/net/ip_vs"], b"").stdout.splitlines()
    servers = sum(line.split()[:1][0] in (b"TCP", b"UDP", b"SCTP", b"FWM") for line in lines if line.split())
    return Size(servers, sum(line.lstrip().startswith(b"->") for line in lines[3:]))
