"""The real kernel's iptables, in the namespace it is given, by the tools that users have.

`run` decides the network namespace; this module never looks around by itself.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

from engine.backends.iptables.names import CANARY, OF_SERVICES
from engine.backends.iptables.program import IptablesProgram, Jump
from engine.kernel.base import Applied, KernelError
from engine.kernel.iptables.variant import WAIT, detect, tool

Run = Callable[[list[str], bytes], "subprocess.CompletedProcess[bytes]"]
_LINE = re.compile(r"line:? (\d+)")


class IptablesKernel:
    """iptables and ip6tables of one variant, `legacy` or `nft`; detected where none is given."""

    def __init__(self, run: Run, variant: str | None = None) -> None:
        self._run = run
        self.variant = variant or detect(run)

    def apply(self, program: IptablesProgram) -> Applied:
        """One `iptables-restore` for all tables; KernelError with the line that was refused."""
        for name, value in program.sysctls:
            self._sysctl(name, value)
        text = program.text(*self._held(program)) if program.full else program.text()
        command = [tool(self.variant, program.family, "restore"), *WAIT, "--noflush", "--counters"]
        result = self._run(command, text.encode())
        if result.returncode:
            raise KernelError(f"{command[0]} refused {_refused(result.stderr, text)}")
        return Applied(len(text))

    def intact(self, family: int) -> bool:
        """Whether the canary chains are there that a flush of whole tables would have taken away (SYNC-05)."""
        command = [tool(self.variant, family), *WAIT]
        return all(
            self._run([*command, "-t", table, "-S", CANARY], b"").returncode == 0
            for table in ("mangle", "nat", "filter")
        )

    def save(self, family: int) -> str:
        """What `iptables-save` prints."""
        result = self._run([tool(self.variant, family, "save")], b"")
        if result.returncode:
            raise KernelError(f"rules could not be read: {result.stderr.decode(errors='replace').strip()}")
        return result.stdout.decode()

    def _held(self, program: IptablesProgram) -> tuple[set[Jump], dict[str, list[str]]]:
        """The jumps that are there already, and chains of Services that the program does not write."""
        wanted = {table.name: table.chains for table in program.tables}
        jumps: set[Jump] = set()
        stale: dict[str, list[str]] = {}
        table = ""
        for line in self.save(program.family).splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith(":"):
                chain = line[1:].split(" ", 1)[0]
                if chain.startswith(OF_SERVICES) and chain not in wanted.get(table, ()):
                    stale.setdefault(table, []).append(chain)
            elif line.startswith("-A ") and not line.startswith("-A KUBE-"):
                _, chain, rule = line.split(" ", 2)
                jumps.add(Jump(table, chain, rule))
        return jumps, stale

    def _sysctl(self, name: str, value: str) -> None:
        script = f"echo {value} >/proc/sys/{name.replace('.', '/')}\n"
        result = self._run(["sh", "-e"], script.encode())
        if result.returncode:
            raise KernelError(f"sysctl {name}={value}: {result.stderr.decode(errors='replace').strip()}")


def _refused(stderr: bytes, text: str) -> str:
    """The tool's own words, with the line of input that they speak of."""
    words = stderr.decode(errors="replace").strip()
    number = _LINE.search(words)
    lines = text.splitlines()
    if number and 0 < int(number[1]) <= len(lines):
        return f"line {number[1]} ({lines[int(number[1]) - 1]}): {words}"
    return f"its input: {words}"
