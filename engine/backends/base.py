"""What the proxier asks of a backend: plans of Services in, the kernel's program out."""

from __future__ import annotations

from typing import Protocol

from engine.dataplane import Change
from engine.model import HostAddresses
from engine.program import Program


class Backend(Protocol):
    """Keeps what one family's kernel holds, made as `Backend(family, config)`."""

    def plan(self, changes: list[Change], host: HostAddresses) -> Program:
        """The program from the last plan's state to this one's; falsy when nothing differs."""
