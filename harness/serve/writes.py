"""Requests that change something."""

from harness.serve.app import read_only


class Writes:
    """stub"""

    def __init__(self, store, writable):
        pass

    handle = staticmethod(read_only)
