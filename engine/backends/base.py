"""What the proxier asks of a backend: plans of Services in, the kernel's program out."""

from __future__ import annotations

from typing import Protocol

from engine.dataplane import Change
from engine.model import HostAddresses
from engine.program import Program


class Backend(Protocol):
    """Keeps what one family's kernel holds, made as `Backend(family, config)`.

    The first program of a backend stands for itself, whatever the kernel held before.  So a new one,
    told of all plans as if they had just come, is how to write everything anew.
    """

    def plan(self, changes: list[Change], host: HostAddresses) -> Program:
        """The program from the last plan's state to this one's; falsy when nothing differs."""
