"""Runs alone inside a throwaway user and network namespace and hands out sockets made there.

Started by `harness.namespace` with the file descriptor of a socket pair.  Each request is one line,
`FAMILY TYPE PROTOCOL` in numbers; the answer is that socket as ancillary data.  It ends, and the
namespace with it, when the other end closes for whatever reason.
"""

import socket
import subprocess
import sys


def main() -> None:
    """Bring loopback up, say so, then serve until end of file."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    channel.send(b"ready\n")
    while request := channel.recv(256):
        made = socket.socket(*map(int, request.split()))
        socket.send_fds(channel, [b"ok\n"], [made.fileno()])
        made.close()


main()
