"""An iptables program: chains written whole, rules inserted and deleted, chains deleted, table by table.

Rules are kept without their `-A CHAIN`, in the syntax of `iptables-save`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from engine.program import Section

Rules = tuple[str, ...]


class Jump(NamedTuple):
    """A rule to ensure in a built-in chain, before all others (IPT-03)."""

    table: str
    chain: str
    rule: str


class Edit(NamedTuple):
    """A rule inserted first (`-I`), appended (`-A`) or deleted (`-D`) in a chain that is not written whole."""

    verb: str
    chain: str
    rule: str


@dataclass(frozen=True, slots=True)
class Table:
    """The part of one table. `chains` are created or flushed, then filled; `deleted` are flushed, then deleted."""

    name: str
    chains: Mapping[str, Rules]
    edits: tuple[Edit, ...] = ()
    deleted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.chains or self.edits or self.deleted)

    @property
    def rules(self) -> int:
        """Rules written."""
        return sum(map(len, self.chains.values())) + sum(edit.verb != "-D" for edit in self.edits)

    def lines(self, jumps: Collection[Jump] = ()) -> Iterator[str]:
        """Lines for `iptables-restore --noflush`, those of a chain in one text; every chain is declared first."""
        deleted = self.deleted
        yield f"*{self.name}"
        # Sorted: the legacy tool searches chains by name, which is fast if they come in order.
        names = sorted(self.chains)
        yield from map(":{} - [0:0]".format, sorted([*names, *deleted]) if deleted else names)
        for chain in names:
            if rules := self.chains[chain]:
                start = f"-A {chain} "
                yield start + f"\n{start}".join(rules)
        for verb, chain, rule in self.edits:
            yield f"{verb} {chain} {rule}"
        for jump in jumps:
            yield f"-I {jump.chain} {jump.rule}"
        for chain in deleted:
            yield f"-X {chain}"
        yield "COMMIT"


@dataclass(frozen=True, slots=True)
class IptablesProgram:
    """One sync of one family.

    A full one also has the `jumps` to ensure and `sysctls` to set, and whatever chains of Services
    are there that it does not write are stale (IPT-05).  `rules_total` are the rules that a full one
    would write now, by table (MET-06).
    """

    family: int
    tables: tuple[Table, ...]
    rules_total: Mapping[str, int]
    full: bool = False
    jumps: tuple[Jump, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return self.full or any(self.tables)

    @property
    def operations(self) -> int:
        """Rules written and deleted, and chains deleted."""
        return sum(
            table.rules + sum(edit.verb == "-D" for edit in table.edits) + len(table.deleted) for table in self.tables
        )

    @property
    def rules_last(self) -> dict[str, int]:
        """Rules that this program writes, by table (MET-06)."""
        return {"filter": 0, "nat": 0} | {table.name: table.rules for table in self.tables if table.name != "mangle"}

    def digest(self) -> bytes:
        """SHA-256 of the text and of properties that are not in the text."""
        return hashlib.sha256(f"{self.family} {self.full} {self.sysctls}\n{self.text()}".encode()).digest()

    def sections(self) -> tuple[Section, ...]:
        """For sysctl and iptables-restore, or ip6tables-restore."""
        sysctls = "".join(f"{name} = {value}\n" for name, value in self.sysctls)
        restore = "iptables-restore" if self.family == 4 else "ip6tables-restore"
        found = (Section("sysctl -p -", sysctls), Section(f"{restore} --noflush --counters", self.text()))
        return tuple(section for section in found if section.text)

    def text(self, present: Collection[Jump] = ()) -> str:
        """Input for `iptables-restore --noflush --counters`, without jumps that are already `present`."""
        lines: list[str] = []
        for table in self.tables:
            jumps = [jump for jump in self.jumps if jump.table == table.name and jump not in present]
            if table or jumps:
                lines += table.lines(jumps)
        lines.append("")
        return "\n".join(lines)
