"""Throwaway namespaces."""

from __future__ import annotations

import errno
import socket

import pytest

NO_FAMILY = 250


def test_sockets_that_the_kernel_lacks_are_an_error_and_others_follow(namespace):
    """As those of IPv6 on a kernel started without it."""
    with pytest.raises(OSError) as refused:
        namespace.socket(NO_FAMILY, socket.SOCK_STREAM)
    assert refused.value.errno == errno.EAFNOSUPPORT
    with namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        assert sock.family == socket.AF_INET
