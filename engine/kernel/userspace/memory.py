"""An in-memory proxy: the same tables, without sockets."""

from __future__ import annotations

from engine.backends.userspace.program import UserspaceProgram
from engine.backends.userspace.tables import Tables
from engine.kernel.interface import Applied


class UserspaceMemory:
    """`tables[family]` is the state of the proxy process."""

    def __init__(self) -> None:
        self.tables: dict[int, Tables] = {}

    def apply(self, program: UserspaceProgram) -> Applied:
        """Apply a program to the tables."""
        self.tables.setdefault(program.family, Tables(program.family)).apply(program)
        return Applied(len(program.encoded()))

    def everything(self, family: int) -> UserspaceProgram | None:
        """The state of a family; None if nothing was applied."""
        tables = self.tables.get(family)
        return tables.everything() if tables else None
