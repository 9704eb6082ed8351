"""Generic netlink: resolves the names of families to their dynamic numbers."""

from __future__ import annotations

import errno
import sys

from engine.kernel.netlink.connection import Connection
from engine.kernel.netlink.errors import NetlinkError, Refusal
from engine.kernel.netlink.wire import FAMILY_BYTES, attributes, generic, text

_CONTROL, _GET_FAMILY = 0x10, 3
_FAMILY_ID, _FAMILY_NAME = 1, 2


def family_number(connection: Connection, name: str) -> int:
    """A family's number; the kernel loads its module if needed.  NetlinkError if there is none."""
    answer = connection.ask(generic(_CONTROL, _GET_FAMILY, text(_FAMILY_NAME, name)))
    number = attributes(answer[FAMILY_BYTES:]).get(_FAMILY_ID, b"")
    if len(number) != 2:
        raise NetlinkError([Refusal(-1, errno.EBADMSG, text=f"family {name} has no number")])
    return int.from_bytes(number, sys.byteorder)
