"""The real kernel's iptables, in the namespace it is given.

The legacy variant takes a program in one `iptables-restore`.  In the nft variant that tool's time grows
with the square of the new chains, so chains are written by netlink and only what is left goes through it.
`run` and `make_socket` decide the network namespace; this module never looks around by itself.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping

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
from engine.kernel.base import Applied, KernelError
from engine.kernel.iptables.netlink import NETLINK_NETFILTER, ChainWriter
from engine.kernel.iptables.variant import WAIT, detect, tool

Run = Callable[[list[str], bytes], "subprocess.CompletedProcess[bytes]"]
MakeSocket = Callable[[int, int, int], socket.socket]

_LINE = re.compile(r"line:? (\d+)")
_SHARED = (SERVICES, EXTERNAL_SERVICES, NODE_PORTS, PROXY_FIREWALL)
_DEPENDENT_LAST = ("KUBE-SEP-", "KUBE-SV", "KUBE-EXT-", "KUBE-FW-", "KUBE-NODEPORTS", "KUBE-")
_EDITS_AT_ONCE = 100
"""As many as fit into the send buffer that a tool without rights over the machine gets."""


class IptablesKernel:
    """iptables and ip6tables of one variant, `legacy` or `nft`; detected where none is given."""

    def __init__(self, run: Run, variant: str | None = None, make_socket: MakeSocket = socket.socket) -> None:
        self._run = run
        self.variant = variant or detect(run)
        self._sock = None
        if self.variant == "nft":
            self._sock = make_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
            self._writer = ChainWriter(self._sock)

    def close(self) -> None:
        """Give the socket back."""
        if self._sock:
            self._sock.close()

    def apply(self, program: IptablesProgram) -> Applied:
        """KernelError with what was refused; the legacy variant takes all of a table or nothing."""
        for name, value in program.sysctls:
            self._sysctl(name, value)
        if self._sock:
            return Applied(self._by_netlink(program))
        present = self._present(program) if program.full else set()
        return Applied(self._restore(program.family, program.text(present, self._stale(program))))

    def intact(self, family: int) -> bool:
        """Whether the canary chains are there that a flush of whole tables would have taken away (SYNC-05)."""
        if self._sock:
            return all(self._writer.has(family, table, CANARY) for table in TABLES)
        command = [tool(self.variant, family), *WAIT, "-S", CANARY, "-t"]
        return all(self._run([*command, table], b"").returncode == 0 for table in TABLES)

    def save(self, family: int) -> str:
        """What `iptables-save` prints."""
        return self._tool([tool(self.variant, family, "save")])

    def clean(self, family: int, keep: Collection[str] = ()) -> None:
        """Remove the jumps into chains KUBE-* and these chains, but for those to `keep` (CLN-02, CLN-03)."""
        held = self._held(family)
        ours = {t: [c for c in chains if c.startswith("KUBE-") and c not in keep] for t, chains in held.items()}
        for table in filter(ours.get, held):
            jumps = [jump for chain in BUILT_IN[table] for jump in self._rules_of(family, table, chain)]
            edits = [Edit("-D", j.chain, j.rule) for j in jumps if j.rule.rpartition("-j ")[2] in ours[table]]
            gone = () if self._sock else tuple(ours[table])
            self._restore(family, IptablesProgram(family, (Table(table, {}, tuple(edits), gone),), {}).text())
            if self._sock:
                self._writer.change(family, table, {}, ours[table])

    def _by_netlink(self, program: IptablesProgram) -> int:
        """What is fixed, then chains from the endpoints up, then the ways into them; last what nothing leads to.

        A change that leaves the ways in as they are, as most do, is one transaction a table.
        """
        family, sent = program.family, 0
        stale = self._stale(program)
        if program.full:
            fixed = tuple(Table(table.name, _chains(table, shared=False)) for table in program.tables)
            sent += self._restore(family, IptablesProgram(family, fixed, {}).text())
        at_once = not program.full and not any(table.edits for table in program.tables)
        for table in program.tables:
            gone = table.deleted if at_once else ()
            sent += self._writer.change(family, table.name, _chains(table, shared=True), gone)
        if at_once:
            return sent
        present = self._present(program) if program.full else set()
        for text in _edits(program, present):
            sent += self._restore(family, text)
        for table in program.tables:
            sent += self._writer.change(family, table.name, {}, [*table.deleted, *stale.get(table.name, ())])
        return sent

    def _present(self, program: IptablesProgram) -> set[Jump]:
        """The jumps of the program that are there already."""
        held: set[Jump] = set()
        for table, chain in {(jump.table, jump.chain) for jump in program.jumps}:
            held.update(self._rules_of(program.family, table, chain))
        return held.intersection(program.jumps)

    def _rules_of(self, family: int, table: str, chain: str) -> list[Jump]:
        listed = self._tool([tool(self.variant, family), *WAIT, "-t", table, "-S", chain])
        return [Jump(table, chain, line.split(" ", 2)[2]) for line in listed.splitlines() if line.startswith("-A ")]

    def _stale(self, program: IptablesProgram) -> dict[str, list[str]]:
        """By table, chains of Services that a full program does not write (IPT-05)."""
        if not program.full:
            return {}
        held = self._held(program.family)
        return {
            table.name: [
                chain
                for chain in held.get(table.name, ())
                if chain.startswith(OF_SERVICES) and chain not in table.chains
            ]
            for table in program.tables
        }

    def _held(self, family: int) -> dict[str, list[str]]:
        """The names of all chains, by table."""
        if self._sock:
            return self._writer.chains(family)
        found: dict[str, list[str]] = {}
        for line in self.save(family).splitlines():
            if line.startswith("*"):
                chains = found.setdefault(line[1:], [])
            elif line.startswith(":"):
                chains.append(line[1:].split(" ", 1)[0])
        return found

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


def _chains(table: Table, shared: bool) -> Mapping[str, Rules]:
    """The chains that Services have or share, each after those that it jumps to; or the fixed ones."""
    found = [c for c in table.chains if shared == (c in _SHARED or c.startswith(OF_SERVICES))]
    found.sort(key=lambda chain: next(i for i, prefix in enumerate(_DEPENDENT_LAST) if chain.startswith(prefix)))
    return {chain: table.chains[chain] for chain in found}


def _edits(program: IptablesProgram, present: set[Jump]) -> Iterator[str]:
    """Texts with the program's edits and missing jumps, none with more than the tool can send."""
    for table in program.tables:
        for start in range(0, len(table.edits), _EDITS_AT_ONCE):
            part = Table(table.name, {}, table.edits[start : start + _EDITS_AT_ONCE])
            yield IptablesProgram(program.family, (part,), {}).text()
    if program.jumps:
        bare = tuple(Table(table.name, {}) for table in program.tables)
        yield IptablesProgram(program.family, bare, {}, jumps=program.jumps).text(present)


def _refused(stderr: bytes, text: str) -> str:
    """The tool's own words, with the line of input that they speak of."""
    words = stderr.decode(errors="replace").strip()
    number = _LINE.search(words)
    lines = text.splitlines()
    if number and 0 < int(number[1]) <= len(lines):
        return f"line {number[1]} ({lines[int(number[1]) - 1]}): {words}"
    return f"its input: {words}"
