"""The real kernel's iptables, in a given network namespace.

In the legacy variant a table is one blob, which is cached, edited and replaced under the tool's lock; the tool does
what cannot be done this way.  In the nft variant changes are sent by netlink, as the tool reads the whole table first
and needs time quadratic in the number of new chains; the tool creates missing tables, and is the fallback if the kernel
refuses a change.
`run` and `make_socket` determine the network namespace; this module does not access it in any other way.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

from engine.backends.iptables.names import (
    CANARY,
    EXTERNAL_SERVICES,
    NODE_PORTS,
    OF_SERVICES,
    PROXY_FIREWALL,
    SERVICES,
)
from engine.backends.iptables.program import Edit, IptablesProgram, Jump, Rules, Table
from engine.backends.iptables.skeleton import BUILT_IN, TABLES
from engine.kernel.interface import Applied, Intact, KernelError
from engine.kernel.iptables import probe, saved
from engine.kernel.iptables.ahead import Ahead
from engine.kernel.iptables.blob import Unchangeable
from engine.kernel.iptables.netlink import ChainWriter
from engine.kernel.iptables.variant import WAIT, detect, listed, tool
from engine.kernel.iptables.xtables import LOCK, Xtables
from engine.kernel.netlink import NETFILTER, NetlinkError
from engine.kernel.tools import Run

MakeSocket = Callable[[int, int, int], socket.socket]

_log = logging.getLogger(__name__)

_LINE = re.compile(r"line:? (\d+)")
_SHARED = (SERVICES, EXTERNAL_SERVICES, NODE_PORTS, PROXY_FIREWALL)
_DEPENDENT_LAST = ("KUBE-SEP-", "KUBE-SV", "KUBE-EXT-", "KUBE-FW-", "KUBE-NODEPORTS", "KUBE-")
_EDITS_AT_ONCE = 100
"""Fits into the send buffer of an unprivileged tool."""


class IptablesKernel:
    """iptables and ip6tables of one variant, `legacy` or `nft`; detected if not given."""

    def __init__(
        self,
        run: Run,
        variant: str | None = None,
        make_socket: MakeSocket = socket.socket,
        lock: str | None = None,
    ) -> None:
        self._run = run
        self.variant = variant or detect(run)
        nft = self.variant == "nft"
        self._writer = (
            ChainWriter(make_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER), _report_left) if nft else None
        )
        self._ahead: dict[int, Ahead] = {}
        self._tables = None if nft else Xtables(make_socket, lock or os.environ.get("XTABLES_LOCKFILE", LOCK))

    def close(self) -> None:
        """Close the sockets."""
        if self._tables:
            self._tables.close()
        if self._writer:
            self._writer.close()

    def apply(self, program: IptablesProgram) -> Applied:
        """KernelError states what was refused; the legacy variant applies all of a table or nothing."""
        for name, value in program.sysctls:
            self._sysctl(name, value)
        return Applied(self._written(program))

    def ahead(self, family: int, part: Mapping[str, Rules]) -> None:
        """Write chains of table nat while the rest is computed, in the nft variant."""
        if self._writer:
            if family not in self._ahead:
                self._ahead[family] = Ahead(self._writer, family)
            self._ahead[family].put(part)

    def abandon(self, families: Collection[int] = (4, 6)) -> None:
        """Remove the chains written ahead of programs that are not applied."""
        for family in families:
            if ahead := self._ahead.pop(family, None):
                ahead.remove()

    def missing(self, families: Collection[int]) -> str | None:
        """The features required by programs of these families that tools or kernel lack, or None."""
        return probe.missing(self._run, self.variant, families)

    def intact(self, family: int) -> Intact:
        """Whether the canary chains exist, which a flush of whole tables would have deleted (SYNC-05)."""
        if self._tables and self._tables.unchanged(family, TABLES):
            return Intact.YES
        if not self._writer:
            answers = (listed(self._run, tool(self.variant, family), table, CANARY) for table in TABLES)
            return next((answer for answer in answers if answer is not Intact.YES), Intact.YES)
        try:
            here = all(self._writer.has(family, table, CANARY) for table in TABLES)
        except NetlinkError:
            return Intact.UNKNOWN
        return Intact.YES if here else Intact.NO

    def save(self, family: int) -> str:
        """The output of `iptables-save`."""
        return self._tool([tool(self.variant, family, "save")])

    def clean(self, family: int, keep: Collection[str] = ()) -> None:
        """Remove the chains KUBE-* and the jumps to them, except those to `keep` (CLN-02, CLN-03)."""
        there = self._chains(family)
        ours = {t: [c for c in chains if c.startswith("KUBE-") and c not in keep] for t, chains in there.items()}
        for table in filter(ours.get, there):
            jumps = [jump for chain in BUILT_IN[table] for jump in self._rules_of(family, table, chain)]
            edits = tuple(Edit("-D", j.chain, j.rule) for j in jumps if j.rule.rpartition("-j ")[2] in ours[table])
            gone = () if self._writer else tuple(ours[table])
            (part,) = self._leaving((Table(table, {}, edits, gone),), {} if self._writer else there)
            self._restore(family, IptablesProgram(family, (part,), {}).text())
            if self._writer:
                self._writer.write(family, [Table(table, {}, deleted=tuple(ours[table]))])

    def _written(self, program: IptablesProgram) -> int:
        """Apply by the variant's method; returns the bytes sent."""
        if self._writer:
            return self._by_netlink(program, self._writer)
        return self._by_replacing(program, self._tables) if self._tables else self._by_tool(program)

    def _by_netlink(self, program: IptablesProgram, writer: ChainWriter) -> int:
        """Write jump targets, then the jumps, then delete unreferenced chains; the tool retries a refused change."""
        if program.full:
            return self._whole(program, writer)
        tables = [dataclasses.replace(table, chains=_in_order(table)) for table in program.tables]
        try:
            return writer.write(program.family, tables)
        except (KernelError, ValueError) as error:
            _log.info("%s takes over: %s", tool(self.variant, program.family), error)
            chains = [dataclasses.replace(table, edits=(), deleted=()) for table in tables]
            gone = [Table(table.name, {}, deleted=table.deleted) for table in tables]
            sent = writer.write(program.family, chains)
            for text in _edits(program):
                sent += self._restore(program.family, text)
            return sent + writer.write(program.family, gone)

    def _whole(self, program: IptablesProgram, writer: ChainWriter) -> int:
        """Write everything that was not written ahead, whatever the current state."""
        family = program.family
        ahead = self._ahead.pop(family, None)
        there, written, sent = ahead.end() if ahead else (self._chains(family), {}, 0)
        sent += self._restore(family, foundations(program, there))
        jumps = self._missing_jumps(program, writer)
        return sent + writer.write(
            family,
            [
                dataclasses.replace(
                    table,
                    chains=_in_order(table, written if table.name == "nat" else {}),
                    edits=tuple(Edit("-I", jump.chain, jump.rule) for jump in jumps if jump.table == table.name),
                    deleted=(*table.deleted, *saved.stale(table, there.get(table.name, ()))),
                )
                for table in program.tables
            ],
        )

    def _missing_jumps(self, program: IptablesProgram, writer: ChainWriter) -> list[Jump]:
        """Checks jumps with the tool if not found, as another version of it may have encoded them differently."""
        missing: list[Jump] = []
        for table, chain in {(jump.table, jump.chain): None for jump in program.jumps}:
            jumps = [jump for jump in program.jumps if (jump.table, jump.chain) == (table, chain)]
            lacking, others = writer.lacks(program.family, table, chain, [jump.rule for jump in jumps])
            listed = self._rules_of(program.family, table, chain) if lacking and others else []
            missing += [jump for jump in jumps if jump.rule in lacking and jump not in listed]
        return missing

    def _by_replacing(self, program: IptablesProgram, tables: Xtables) -> int:
        """Replace one table after another; from the first that cannot be replaced, the tool does the rest."""
        sent = done = 0
        try:
            with tables.held():
                for table in program.tables:
                    sent += self._replace(program, table, tables)
                    done += 1
            return sent
        except (OSError, Unchangeable, ValueError) as error:
            _log.info("%s takes over at table %d: %s", tool(self.variant, program.family), done + 1, error)
            tables.forget()
        return sent + self._by_tool(dataclasses.replace(program, tables=program.tables[done:]))

    def _replace(self, program: IptablesProgram, table: Table, tables: Xtables) -> int:
        if not table and not program.full:
            return 0
        blob = tables.table(program.family, table.name)
        before = blob.info
        if program.full:
            jumps = [jump for jump in program.jumps if jump.table == table.name]
            missing = {c: blob.lacks(c, [j.rule for j in jumps if j.chain == c]) for c in {j.chain for j in jumps}}
            table = dataclasses.replace(
                table,
                edits=tuple(Edit("-I", j.chain, j.rule) for j in jumps if j.rule in missing[j.chain]),
                deleted=(*table.deleted, *saved.stale(table, blob.chains)),
            )
        return tables.commit(program.family, table.name, before, blob.change(table))

    def _by_tool(self, program: IptablesProgram) -> int:
        """One call of the tool, or two if it refuses to delete a chain that other programs' rules jump to."""
        if program.full:
            there = self._chains(program.family)
            tables = [
                dataclasses.replace(table, deleted=(*table.deleted, *saved.stale(table, there.get(table.name, ()))))
                for table in program.tables
            ]
            program = dataclasses.replace(program, tables=self._leaving(tables, there))
            return self._restore(program.family, program.text(self._present(program)))
        try:
            return self._restore(program.family, program.text())
        except KernelError:
            rest = self._rest(program)
            if rest is None:
                raise
        return self._restore(program.family, rest.text())

    def _rest(self, program: IptablesProgram) -> IptablesProgram | None:
        """The rest of the program after the tool refused to delete a chain; None if it refused something else.

        The tool commits one table after another, so those before the one with that chain are done.
        """
        there = self._chains(program.family)
        for at, table in enumerate(program.tables):
            chains = there.get(table.name, {})
            if saved.held(table, chains):
                return dataclasses.replace(program, tables=self._leaving(program.tables[at:], there))
            if not saved.in_effect(table, chains):
                return None
        return None

    def _leaving(self, tables: Iterable[Table], there: Mapping[str, saved.Chains]) -> tuple[Table, ...]:
        """The tables' parts, without deletions of chains that other programs' rules jump to."""
        found = []
        for table in tables:
            if held := saved.held(table, there.get(table.name, {})):
                _report_left(table.name, held)
                table = saved.leaving(table, held)
            found.append(table)
        return tuple(found)

    def _present(self, program: IptablesProgram) -> set[Jump]:
        """The jumps of the program that already exist."""
        held: set[Jump] = set()
        for table, chain in {(jump.table, jump.chain) for jump in program.jumps}:
            held.update(self._rules_of(program.family, table, chain))
        return held.intersection(program.jumps)

    def _rules_of(self, family: int, table: str, chain: str) -> list[Jump]:
        listed = self._tool([tool(self.variant, family), *WAIT, "-t", table, "-S", chain])
        return [Jump(table, chain, line.split(" ", 2)[2]) for line in listed.splitlines() if line.startswith("-A ")]

    def _chains(self, family: int) -> dict[str, dict[str, list[str]]]:
        """All chains, by table; with their rules, except in the nft variant."""
        if self._writer:
            return {table: {name: [] for name in names} for table, names in self._writer.chains(family).items()}
        return saved.parse(self.save(family))

    def _restore(self, family: int, text: str) -> int:
        if not text:
            return 0
        command = [tool(self.variant, family, "restore"), *WAIT, "--noflush", "--counters"]
        result = self._run(command, text.encode())
        if result.returncode:
            raise KernelError(f"{command[0]} refused {_refused(result.stderr, text)}")
        return len(text)

    def _tool(self, command: list[str]) -> str:
        result = self._run(command, b"")
        if result.returncode:
            raise KernelError(f"{' '.join(command)}: {result.stderr.decode(errors='replace').strip()}")
        return result.stdout.decode()

    def _sysctl(self, name: str, value: str) -> None:
        script = f"echo {value} >/proc/sys/{name.replace('.', '/')}\n"
        result = self._run(["sh", "-e"], script.encode())
        if result.returncode:
            raise KernelError(f"sysctl {name}={value}: {result.stderr.decode(errors='replace').strip()}")


def _report_left(table: str, chains: list[str]) -> None:
    _log.warning(
        "Chains of table %s are emptied, not deleted: other programs' rules jump to them: %s", table, ", ".join(chains)
    )


def _in_order(table: Table, written: Mapping[str, Rules] = MappingProxyType({})) -> Mapping[str, Rules]:
    """The unwritten chains, each after those that it jumps to: fixed ones first, then from the endpoints up."""
    rest = [chain for chain, rules in table.chains.items() if written.get(chain) != rules]
    return {chain: table.chains[chain] for chain in sorted(rest, key=_depth)}


def _depth(chain: str) -> int:
    if chain not in _SHARED and not chain.startswith(OF_SERVICES):
        return 0
    return next(i for i, prefix in enumerate(_DEPENDENT_LAST, 1) if chain.startswith(prefix))


def foundations(program: IptablesProgram, there: Mapping[str, Collection[str]]) -> str:
    """A text that creates missing tables, and the built-in chains that will contain jumps."""
    lines: list[str] = []
    for table in program.tables:
        wanted = [CANARY, *sorted({jump.chain for jump in program.jumps if jump.table == table.name})]
        if missing := [chain for chain in wanted if chain not in there.get(table.name, ())]:
            chains = [f":{chain} {'-' if chain == CANARY else 'ACCEPT'} [0:0]" for chain in missing]
            lines += [f"*{table.name}", *chains, "COMMIT"]
    return "".join(f"{line}\n" for line in lines)


def _edits(program: IptablesProgram) -> Iterator[str]:
    """Texts with the program's edits, each within the size that the tool can send."""
    for table in program.tables:
        for start in range(0, len(table.edits), _EDITS_AT_ONCE):
            part = Table(table.name, {}, table.edits[start : start + _EDITS_AT_ONCE])
            yield IptablesProgram(program.family, (part,), {}).text()


def _refused(stderr: bytes, text: str) -> str:
    """The tool's error message, with the input line it refers to."""
    words = stderr.decode(errors="replace").strip()
    number = _LINE.search(words)
    lines = text.splitlines()
    if number and 0 < int(number[1]) <= len(lines):
        return f"line {number[1]} ({lines[int(number[1]) - 1]}): {words}"
    return f"its input: {words}"
