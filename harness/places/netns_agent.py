"""Runs inside a throwaway user and network namespace and passes out sockets created there.

Started by `harness.places.namespace` with the file descriptor of a socket pair.  Each request is a line
`FAMILY TYPE PROTOCOL` of numbers; the answer is the socket as ancillary data, or the number of the error.  It ends, and
the namespace with it, when the other end closes.
"""

import fcntl
import socket
import struct
import sys

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_REQUEST = "16sh14x"
"""struct ifreq: name and flags."""


def main() -> None:
    """Bring loopback up, report readiness, then serve until end of file."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        name, flags = struct.unpack(_REQUEST, fcntl.ioctl(sock, _GET_FLAGS, struct.pack(_REQUEST, b"lo", 0)))
        fcntl.ioctl(sock, _SET_FLAGS, struct.pack(_REQUEST, name, flags | _UP))
    channel.send(b"ready\n")
    while request := channel.recv(256):
        try:
            made = socket.socket(*map(int, request.split()))
        except OSError as error:
            channel.send(str(error.errno).encode())
            continue
        with made:
            socket.send_fds(channel, [b"ok\n"], [made.fileno()])


main()
