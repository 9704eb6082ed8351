"""Addresses on loopback in a real kernel."""

from __future__ import annotations

import contextlib
import socket

from engine.backends.userspace.program import UserspaceProgram
from engine.kernel.userspace.real import UserspaceKernel

ROUNDS = 200
"""Without a wait between one in twenty and one in two of them were late."""


def test_packets_to_an_address_are_taken_once_it_is_applied(namespace):
    kernel, late = UserspaceKernel(namespace.start), []
    with contextlib.closing(kernel):
        kernel.apply(UserspaceProgram(family=6, pods=""))
        for number in range(1, ROUNDS + 1):
            address = f"fd00:96::{number:x}"
            with namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                kernel.apply(UserspaceProgram(family=6, addresses_added=(address,)))
                with contextlib.suppress(OSError):  # no route at all
                    sock.connect((address, 53))
                if sock.getsockname()[0] != address:  # a packet to a local address comes from it
                    late.append(address)
    assert late == []
