"""Allocators of addresses and ports; each value has one holder at a time."""

from __future__ import annotations

import random
from collections import deque

POD_CIDR4 = "10.128.0.0/9"
POD_CIDR6 = "fd00:10:128::/48"
SERVICE_CIDR4 = "10.96.0.0/12"
SERVICE_CIDR6 = "fd00:10:96::/108"

_POD_BASE = (10 << 24) | (128 << 16)
_SERVICE_BASE = (10 << 24) | (96 << 16)
_SERVICE_SPACE = 1 << 20
_STRIDE = 645_137
"""Odd, so i * stride walks the whole (power of two) service range before it repeats."""

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""The alphabet of Kubernetes' generated names: no vowels, no 0, 1 or 3."""


def dotted(value: int) -> str:
    """A 32-bit integer as an IPv4 address."""
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"


def node_ip(node: int) -> str:
    """InternalIP of node number `node` (from 0), in 192.168.0.0/16."""
    return f"192.168.{1 + node // 250}.{1 + node % 250}"


def pod_cidrs(node: int, size: int, dual_stack: bool) -> list[str]:
    """The node's podCIDRs: `size` IPv4 addresses, and an IPv6 /64 when dual stack."""
    cidrs = [f"{dotted(_POD_BASE + node * size)}/{33 - size.bit_length()}"]
    return [*cidrs, f"fd00:10:128:{node + 1:x}::/64"] if dual_stack else cidrs


def pod_ip(node: int, host: int, size: int, family: str) -> str:
    """Address of host number `host` in the node's podCIDR; `family` is IPv4 or IPv6."""
    if family == "IPv6":
        # Two groups if the number exceeds 16 bits, otherwise one, as in the canonical text form.
        tail = f"{host:x}" if host < 1 << 16 else f"{host >> 16:x}:{host & 0xFFFF:x}"
        return f"fd00:10:128:{node + 1:x}::{tail}"
    return dotted(_POD_BASE + node * size + host)


class ClusterIPs:
    """Offsets into the service CIDRs, scattered, never reused."""

    def __init__(self, rng: random.Random) -> None:
        """Start the walk at a random place."""
        self._next = rng.randrange(_SERVICE_SPACE)

    def take(self) -> int:
        """The next offset; skips the first 16 (the API's own and DNS) and the broadcast address."""
        while True:
            self._next = (self._next + _STRIDE) % _SERVICE_SPACE
            if 16 <= self._next < _SERVICE_SPACE - 1:
                return self._next

    @staticmethod
    def text(offset: int, dual_stack: bool) -> list[str]:
        """`clusterIPs` for an offset: IPv4, then IPv6 when dual stack."""
        ipv4 = dotted(_SERVICE_BASE + offset)
        if not dual_stack:
            return [ipv4]
        high, low = offset >> 16, offset & 0xFFFF
        return [ipv4, f"fd00:10:96::{high:x}:{low:x}" if high else f"fd00:10:96::{low:x}"]


class NodePorts:
    """The range 30000-32767, shuffled; health check ports are allocated from it too."""

    def __init__(self, rng: random.Random) -> None:
        """Shuffle once; freed ports go to the back, so they are reused as late as possible."""
        ports = list(range(30_000, 32_768))
        rng.shuffle(ports)
        self._free = deque(ports)

    def __len__(self) -> int:
        """Ports left."""
        return len(self._free)

    def take(self) -> int:
        """One free port; IndexError if there is none (check `len` first)."""
        return self._free.popleft()

    def release(self, port: int) -> None:
        """Free `port`."""
        self._free.append(port)


class Counter:
    """Numbers external addresses and slice names."""

    def __init__(self) -> None:
        """Start at 0."""
        self._external = self._suffix = 0

    def external_ip(self) -> str:
        """An address of 198.18.0.0/15 (set aside for benchmarks), in order."""
        self._external += 1
        return dotted((198 << 24) + (18 << 16) + self._external)

    def suffix(self) -> str:
        """Five letters for a generated name; distinct for the first 27**5."""
        self._suffix += 1
        rest, letters = self._suffix * 7_654_321 % 27**5, ""
        for _ in range(5):
            rest, digit = divmod(rest, 27)
            letters += _SUFFIX_LETTERS[digit]
        return letters
