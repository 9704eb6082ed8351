"""A proxy that only remembers: the same tables, no sockets."""

from __future__ import annotations

from engine.backends.userspace.program import UserspaceProgram
from engine.backends.userspace.tables import Tables
from engine.kernel.base import Applied


class UserspaceMemory:
    """`tables[family]` is what the proxy process would hold."""

    def __init__(self) -> None:
        self.tables: dict[int, Tables] = {}

    def apply(self, program: UserspaceProgram) -> Applied:
        """Take a program in."""
        self.tables.setdefault(program.family, Tables(program.family)).apply(program)
        return Applied(len(program.encoded()))

    def everything(self, family: int) -> UserspaceProgram | None:
        """All that is held of a family; None when nothing was ever applied."""
        tables = self.tables.get(family)
        return tables.everything() if tables else None
