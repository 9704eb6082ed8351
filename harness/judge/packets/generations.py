"""Generations of the kernel's rules, which it counts: each transaction makes a new one."""

from __future__ import annotations

from engine.kernel.netlink.wire import attributes

_GEN_ID, _FAMILY_BYTES = 1, 4


def generation_id(body: bytes) -> int:
    """The id in the kernel's message about a generation; KeyError if there is none."""
    return int.from_bytes(attributes(body[_FAMILY_BYTES:])[_GEN_ID])
