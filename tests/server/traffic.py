"""Runs inside a namespace: `traffic.py serve IP PORT` answers its address, `traffic.py call IP PORT` connects to it.

The caller prints a line `COUNT FAILED` when its standard input closes; a failure is a connection that
was refused, timed out or got no answer.
"""

import select
import socket
import struct
import sys
import time

TIMEOUT_SECONDS = 0.5


def serve(address: str, port: int) -> None:
    """One answer a connection."""
    with socket.create_server((address, port), backlog=512) as server:
        print("serving", flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                connection.sendall(address.encode())


def call(address: str, port: int) -> None:
    """A new connection every millisecond or so, reset at its end so that ports and entries are free again."""
    count = failed = 0
    print("calling", flush=True)
    while not select.select([sys.stdin], [], [], 0.001)[0]:
        count += 1
        try:
            with socket.create_connection((address, port), TIMEOUT_SECONDS) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if not connection.recv(64):
                    raise OSError("no answer")
        except OSError as error:
            failed += 1
            print(f"{time.time()} {error}", file=sys.stderr, flush=True)
    print(count, failed, flush=True)


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
