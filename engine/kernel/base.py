"""What the proxier asks of a kernel."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from engine.conntrack import Stale
from engine.program import Program


class KernelError(RuntimeError):
    """The kernel (or its tool) refused a program; the message says what and why."""


class Applied(NamedTuple):
    """Bytes sent for one program."""

    bytes: int


class Kernel(Protocol):
    """Something that programs of its own mode can be applied to, atomically where it can be."""

    def apply(self, program: Program) -> Applied:
        """Make the program live; KernelError when refused."""


class Conntrack(Protocol):
    """The kernel's table of connections."""

    def remove(self, family: int, stale: Stale) -> int:
        """Delete the UDP flows of a family that are stale; how many. KernelError when that fails."""
