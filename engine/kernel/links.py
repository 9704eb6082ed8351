"""Network devices and their addresses by rtnetlink, in the namespace of the connection's socket.

Wire format: linux/rtnetlink.h, if_link.h and if_addr.h.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence

from engine.addresses import format_address
from engine.kernel.interface import KernelError
from engine.kernel.netlink import (
    CREATE,
    EXCLUSIVE,
    Connection,
    ErrorKind,
    NetlinkError,
    attribute,
    attributes,
    message,
    nested,
    text,
)
from engine.model import Address

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _DELADDR, _GETADDR, _GETROUTE = 16, 17, 18, 20, 21, 22, 26
_IFLA_IFNAME, _IFLA_LINKINFO = 3, 18
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_AF = {4: 2, 6: 10}
_AF_OF_BYTES = {4: 2, 16: 10}
_ROUTE_LOCAL = 2
_NO_DUPLICATE_DETECTION = 0x02
_link = struct.Struct("=BBHiII").pack
_address = struct.Struct("=BBBBI")
_LOCAL_SECONDS, _LOOK_AGAIN_SECONDS = 5.0, 0.001


def addresses(connection: Connection, family: int) -> list[tuple[int, Address]]:
    """(device index, address) of each address of the machine; for a point-to-point link its local end."""
    found = []
    for body in connection.dump(message(_GETADDR, 0, _address.pack(_AF[family], 0, 0, 0, 0))):
        fields = attributes(body[_address.size :])
        if address := fields.get(_IFA_LOCAL) or fields.get(_IFA_ADDRESS):
            found.append((_address.unpack_from(body)[4], address))
    return found


def index_of(connection: Connection, device: str) -> int:
    """A device's index, 0 if it does not exist.  Opens no socket, as file descriptors may be exhausted."""
    try:
        body = connection.ask(message(_GETLINK, 0, _link(0, 0, 0, 0, 0, 0) + text(_IFLA_IFNAME, device)))
    except NetlinkError as error:
        if error.kind is ErrorKind.NOT_THERE:
            return 0
        raise error.about(f"device {device}") from None
    (number,) = struct.unpack_from("=i", body, 4)
    return int(number)


class Dummy:
    """A dummy device that holds addresses; it stays down."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._index = 0

    def index(self) -> int:
        """The device's index, 0 if it does not exist."""
        return index_of(self._connection, self._name)

    def make(self) -> None:
        """Create the device unless it exists."""
        info = nested(_IFLA_LINKINFO, attribute(1, b"dummy"))
        body = _link(0, 0, 0, 0, 0, 0) + text(_IFLA_IFNAME, self._name) + info
        try:
            self._connection.require([message(_NEWLINK, CREATE | EXCLUSIVE, body)])
        except NetlinkError as error:
            if error.kind is not ErrorKind.EXISTS:
                raise error.about(f"cannot create device {self._name} (module dummy)") from None
        self._index = self.index()

    def remove(self) -> None:
        """Delete the device, with its addresses."""
        self._connection.require([message(_DELLINK, 0, _link(0, 0, 0, 0, 0, 0) + text(_IFLA_IFNAME, self._name))])

    def replace(self, family: int, wanted: Sequence[Address]) -> int:
        """Set the addresses of a family; returns bytes sent."""
        held = {address for index, address in addresses(self._connection, family) if index == self._index}
        sent = self.delete(sorted(held.difference(wanted)))
        return sent + self.add([address for address in wanted if address not in held])

    def add(self, added: Sequence[Address]) -> int:
        """Add addresses with full prefix length; returns bytes sent."""
        return self._change(_NEWADDR, CREATE | EXCLUSIVE, added)

    def delete(self, deleted: Sequence[Address]) -> int:
        """Remove addresses; returns bytes sent."""
        return self._change(_DELADDR, 0, deleted)

    def _change(self, kind: int, flags: int, changed: Sequence[Address]) -> int:
        try:
            return self._connection.require([message(kind, flags, self._of(address)) for address in changed])
        except NetlinkError as error:
            at = max(0, error.first.index)
            raise error.about(f"device {self._name}: cannot change address {format_address(changed[at])}") from None

    def _of(self, address: Address) -> bytes:
        flags = 0 if len(address) == 4 else _NO_DUPLICATE_DETECTION
        body = _address.pack(_AF_OF_BYTES[len(address)], 8 * len(address), flags, 0, self._index)
        return body + attribute(_IFA_LOCAL, address) + attribute(_IFA_ADDRESS, address)


def until_local(connection: Connection, device: str, added: Sequence[Address]) -> None:
    """Wait until the addresses are local: the kernel acknowledges an IPv6 address before it accepts its packets."""
    until = time.monotonic() + _LOCAL_SECONDS
    for address in added:
        while not _is_local(connection, address):
            if time.monotonic() > until:
                raise KernelError(f"device {device}: {format_address(address)} has not become a local address")
            time.sleep(_LOOK_AGAIN_SECONDS)


def _is_local(connection: Connection, address: Address) -> bool:
    """Whether the route to the address is local."""
    body = struct.pack("=BBBBBBBBI", _AF_OF_BYTES[len(address)], 8 * len(address), 0, 0, 0, 0, 0, 0, 0)
    try:
        return connection.ask(message(_GETROUTE, 0, body + attribute(1, address)))[7] == _ROUTE_LOCAL
    except NetlinkError as error:
        if error.kind is ErrorKind.TIMED_OUT:
            raise
        return False  # not yet reachable
