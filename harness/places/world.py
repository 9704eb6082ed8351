"""Network namespaces around one node, connected by veth pairs, with sockets on every path of packets.

    namespace pods  <--veth-->  namespace node  <--veth-->  namespace outside
    (pods, endpoints)           (rules, addresses)          (external clients, pods of other nodes)

The other namespaces have no addresses: the harness acts as every address there, reading and writing
whole packets.  So any source address and SCTP can be used, and no kernel answers by itself.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from harness.places.namespace import Namespace
from harness.places.wire import ICMP, ICMPV6, SCTP, TCP, UDP, CapturedPacket, answer, parse, parse_body

OUTSIDE_INTERFACE = "eth0"
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_IPPROTO_RAW = 255
_NODE_LINK, _FAR_LINK = "02:00:00:00:00:01", "02:00:00:00:00:02"
MASQUERADE_ADDRESSES = ("198.19.255.1", "2001:2:0:255::1")
"""The node's addresses on each link; they reveal a replaced source even if the node is the client (RFC 2544, 5180)."""
_BUFFER_BYTES = 8 << 20
_SYSCTLS = (
    "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.default.send_redirects=0",
    "net.ipv4.conf.all.accept_local=1", "net.ipv4.icmp_ratemask=0",
    "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.icmp.ratemask=255",
)  # fmt: skip
"""The masks exclude all types that are sent, so that no ICMP error is rate-limited, not even globally."""


class Sighting:
    """A packet and where it was seen: at the node itself (""), or behind an interface."""

    __slots__ = ("place", "seen")

    def __init__(self, place: str, seen: CapturedPacket) -> None:
        self.place, self.seen = place, seen


class World:
    """Context manager; `node` is the namespace whose rules are judged; `user` as for `Namespace`."""

    def __init__(self, pods_interface: str = "pods0", user: bool = True) -> None:
        self.pods_interface = pods_interface
        self.node = Namespace(user=user)
        self._pods, self._outside = Namespace(beside=self.node), Namespace(beside=self.node)
        self._stack = ExitStack()
        self._frames: dict[tuple[str, int], socket.socket] = {}
        self._raw: dict[int, tuple[int, int]] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._senders: dict[int, socket.socket] = {}

    def __enter__(self) -> World:
        try:
            for namespace in (self.node, self._pods, self._outside):
                self._stack.enter_context(namespace)
            self._connect()
            self._listen()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def _connect(self) -> None:
        self._must(self.node, ["sysctl", "-qw", *_SYSCTLS])
        ends = ((self.pods_interface, self._pods), (OUTSIDE_INTERFACE, self._outside))
        for name, far in ends:
            peer = ["peer", "name", name, "address", _FAR_LINK, "netns", str(far.pid)]
            self._must(self.node, ["ip", "link", "add", name, "address", _NODE_LINK, "type", "veth", *peer])
            for end in (self.node, far):
                # Without ARP every neighbour is resolved at once, to a link address that the peer does not accept.
                self._must(end, ["ip", "link", "set", name, "arp", "off", "up"])
            self._batch(f"addr add {_prefix(ipaddress.ip_address(a).packed)} dev {name}" for a in MASQUERADE_ADDRESSES)
        for family in ("-4", "-6"):
            self._must(self.node, ["ip", family, "route", "add", "default", "dev", OUTSIDE_INTERFACE])

    @staticmethod
    def _must(namespace: Namespace, command: list[str], stdin: bytes = b"") -> None:
        done = namespace.run(command, stdin)
        if done.returncode:
            raise OSError(f"`{' '.join(command)}` failed: {done.stderr.decode(errors='replace').strip()}")

    def _listen(self) -> None:
        for name, far in ((self.pods_interface, self._pods), (OUTSIDE_INTERFACE, self._outside)):
            for family, ethertype in _ETHERTYPES.items():
                frames = self._keep(far.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ethertype)))
                frames.bind((name, ethertype))
                self._frames[name, family] = frames
        for version, family, error in ((4, socket.AF_INET, ICMP), (6, socket.AF_INET6, ICMPV6)):
            for protocol in (TCP, UDP, SCTP, error):
                raw = self._keep(self.node.socket(family, socket.SOCK_RAW, protocol))
                if version == 6:
                    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                self._raw[raw.fileno()] = version, protocol
            self._senders[version] = self._keep(self.node.socket(family, socket.SOCK_RAW, _IPPROTO_RAW))

    def _keep(self, sock: socket.socket) -> socket.socket:
        self._stack.enter_context(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        sock.setblocking(False)
        self._sockets[sock.fileno()] = sock
        return sock

    def links(self) -> list[socket.socket]:
        """New packet sockets, to be closed by the caller: per family, one for pods and one for the outside."""
        found = []
        for ethertype in _ETHERTYPES.values():
            for name, far in ((self.pods_interface, self._pods), (OUTSIDE_INTERFACE, self._outside)):
                link = far.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ethertype))
                link.bind((name, ethertype))
                found.append(link)
        return found

    def forget(self) -> None:
        """Discard everything received so far, without answering."""
        for sock in self._sockets.values():
            with suppress(BlockingIOError):
                while True:
                    sock.recv(65536)

    @staticmethod
    def own_address(family: int) -> bytes:
        """The node's address of a family, which is on every link."""
        return ipaddress.ip_address(MASQUERADE_ADDRESSES[0 if family == 4 else 1]).packed

    def add_addresses(self, addresses: list[bytes]) -> None:
        """Add addresses to the node; loopback addresses are already there."""
        wanted = [a for a in addresses if not ipaddress.ip_address(a).is_loopback]
        self._batch(f"addr replace {_prefix(a)} dev {OUTSIDE_INTERFACE}" for a in wanted)

    def remove_addresses(self, addresses: list[bytes]) -> None:
        """Undo `add_addresses`."""
        self._batch(f"addr del {_prefix(a)} dev {OUTSIDE_INTERFACE}" for a in addresses)

    def route_to_pods(self, addresses: list[bytes]) -> None:
        """Route these addresses to the namespace of pods."""
        self._batch(f"route replace {_prefix(a)} dev {self.pods_interface}" for a in addresses)

    def _batch(self, lines: Iterator[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if text:
            self._must(self.node, ["ip", "-batch", "-"], text.encode())

    def send(self, origin: str, packet: bytes) -> None:
        """Send a packet from the node itself ("") or from behind an interface; OSError if the node cannot send it."""
        family = packet[0] >> 4
        if origin:
            link = bytes.fromhex(_NODE_LINK.replace(":", ""))
            self._frames[origin, family].sendto(packet, (origin, _ETHERTYPES[family], 0, 0, link))
            return
        destination = packet[16:20] if family == 4 else packet[24:40]
        self._senders[family].sendto(packet, (str(ipaddress.ip_address(destination)), 0))

    def sightings(self, quiet_seconds: float, limit_seconds: float) -> Iterator[Sighting]:
        """Packets as they arrive, until none arrives for a while; requests behind an interface are answered."""
        until = time.monotonic() + limit_seconds
        poll = select.poll()
        for descriptor in self._sockets:
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = poll.poll(quiet_seconds * 1000)
            if not ready or time.monotonic() > until:
                return
            for descriptor, _ in ready:
                sighting = self._receive(descriptor)
                if sighting:
                    yield sighting

    def _receive(self, descriptor: int) -> Sighting | None:
        sock = self._sockets[descriptor]
        if descriptor in self._raw:
            seen = _received_raw(sock, *self._raw[descriptor])
            return Sighting("", seen) if seen else None
        packet, (name, _, direction, *_) = sock.recvfrom(65536)
        seen = parse(packet) if direction != socket.PACKET_OUTGOING else None
        if seen is None:
            return None
        if seen.kind == "request":  # data of an established connection needs no answer
            self.send(name, answer(seen))
        return Sighting(name, seen)


def _received_raw(sock: socket.socket, version: int, protocol: int) -> CapturedPacket | None:
    """A packet delivered to the node: with its header in IPv4, without in IPv6."""
    if version == 4:
        return parse(sock.recv(65536))
    body, ancillary, _, sender = sock.recvmsg(65536, 256)
    source = socket.inet_pton(socket.AF_INET6, sender[0].partition("%")[0])
    destination = next((data[:16] for level, kind, data in ancillary if kind == socket.IPV6_PKTINFO), bytes(16))
    return parse_body(protocol, source, destination, body)


def _prefix(address: bytes) -> str:
    return f"{ipaddress.ip_address(address)}/{8 * len(address)}"
