"""An in-memory kernel: accepts and rejects the same programs, without netfilter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from engine.backends.iptables.names import OF_SERVICES
from engine.backends.iptables.program import Edit, IptablesProgram, Table
from engine.backends.iptables.skeleton import BUILT_IN
from engine.kernel.interface import Applied, KernelError

_TARGETS = frozenset(("", "ACCEPT", "DROP", "RETURN", "REJECT", "MARK", "MASQUERADE", "DNAT"))


class MemoryTable:
    """One table: rules by chain, without their `-A CHAIN`, and how many of them jump to each chain."""

    def __init__(self, built_in: Iterable[str]) -> None:
        self.chains: dict[str, list[str]] = {chain: [] for chain in built_in}
        self.jumps: Counter[str] = Counter()


class IptablesMemory:
    """`tables[family][table]` is the content of that table."""

    def __init__(self) -> None:
        self.tables: dict[int, dict[str, MemoryTable]] = {}

    def apply(self, program: IptablesProgram) -> Applied:
        """Apply all of a table or nothing; rejects the same errors as iptables-restore."""
        if program.family not in self.tables:
            self.tables[program.family] = {name: MemoryTable(chains) for name, chains in BUILT_IN.items()}
        held = self.tables[program.family]
        for table in program.tables:
            draft = _Draft(held[table.name])
            draft.write(table, program)
            draft.commit()
        return Applied(len(program.text()))

    def save(self, family: int) -> str:
        """The output of `iptables-save`."""
        lines: list[str] = []
        for table, held in sorted(self.tables.get(family, {}).items()):
            lines.append(f"*{table}")
            for chain in held.chains:
                lines.append(f":{chain} {'ACCEPT' if chain in BUILT_IN[table] else '-'} [0:0]")
            lines += [f"-A {chain} {rule}" for chain, rules in held.chains.items() for rule in rules]
            lines.append("COMMIT")
        return "".join(f"{line}\n" for line in lines)


class _Draft:
    """The changed chains of one table; None for a deleted one."""

    def __init__(self, held: MemoryTable) -> None:
        self._held = held
        self._changed: dict[str, list[str] | None] = {}

    def write(self, table: Table, program: IptablesProgram) -> None:
        """Check and collect a program's changes of the table."""
        self._changed |= {chain: list(rules) for chain, rules in table.chains.items()}
        for edit in table.edits:
            self._edit(edit)
        for jump in program.jumps:
            if jump.table == table.name and jump.rule not in self._held.chains[jump.chain]:
                self._edit(Edit("-I", jump.chain, jump.rule))
        stale = [name for name in self._held.chains if name.startswith(OF_SERVICES) and name not in table.chains]
        for chain in (*table.deleted, *(stale if program.full else ())):
            if self._rules(chain) is None:
                raise KernelError(f"no chain {chain} to delete")
            self._changed[chain] = None
        self._jumps = self._count_jumps()

    def commit(self) -> None:
        """Commit the changes."""
        for chain, rules in self._changed.items():
            if rules is None:
                del self._held.chains[chain]
            else:
                self._held.chains[chain] = rules
        self._held.jumps.update(self._jumps)

    def _rules(self, chain: str) -> list[str] | None:
        return self._changed[chain] if chain in self._changed else self._held.chains.get(chain)

    def _edit(self, edit: Edit) -> None:
        rules = self._rules(edit.chain)
        if rules is None:
            raise KernelError(f"no chain {edit.chain}: {edit.rule}")
        rules = self._changed[edit.chain] = list(rules)
        if edit.verb == "-I":
            rules.insert(0, edit.rule)
        elif edit.verb == "-A":
            rules.append(edit.rule)
        elif edit.rule in rules:
            rules.remove(edit.rule)
        else:
            raise KernelError(f"no such rule in {edit.chain}: {edit.rule}")

    def _count_jumps(self) -> dict[str, int]:
        """The change in the number of jumps to each chain; every jump must have a target."""
        more: Counter[str] = Counter()
        for chain, rules in self._changed.items():
            more.update(map(_target, rules or ()))
            more.subtract(map(_target, self._held.chains.get(chain, ())))
        for chain in [*more, *(chain for chain, rules in self._changed.items() if rules is None)]:
            if chain not in _TARGETS and self._rules(chain) is None and more[chain] + self._held.jumps[chain] > 0:
                raise KernelError(f"rules jump to {chain}, which is absent or to be deleted")
        return more


def _target(rule: str) -> str:
    """The target of a rule; empty if it has none."""
    return rule.rpartition("-j ")[2].split(" ", 1)[0] if "-j " in rule else ""
