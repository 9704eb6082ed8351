"""iptables rules as text, by table and chain: the format of `iptables-restore` and `iptables-save`.

Rules are kept as lines (`-A CHAIN ...`); the tracer parses only those that a packet reaches, the readback
parses all.
"""

from __future__ import annotations

import re
import shlex

BUILT_IN = frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"))
_COUNTERS = re.compile(r"\[\d+:\d+\] (?=-)")


class ParsedTables:
    """Chains of one family, built from any number of texts, as by `iptables-restore --noflush`.

    `chains`: the rules of each (table, chain); `policies`: the policies of built-in chains other than ACCEPT.
    """

    def __init__(self, text: str = "") -> None:
        self.chains: dict[tuple[str, str], list[str]] = {}
        self.policies: dict[tuple[str, str], str] = {}
        self.feed(text)

    def feed(self, text: str) -> None:
        """Apply one text line by line; ValueError with the line if it is invalid."""
        table, chains = "", self.chains
        for line in text.splitlines():
            if line[:3] == "-A ":  # most lines
                chain = line[3 : line.index(" ", 3)] if " " in line[3:] else line[3:]
                rules = chains.get((table, chain))
                if rules is None:
                    rules = self._built_in(table, chain, line)
                rules.append(line)
            elif line[:1] == "*":
                table = line[1:].strip()
            elif line and line[0] != "#" and line.strip() != "COMMIT":
                self._command(table, line)

    def rules(self, table: str, chain: str) -> list[str]:
        """The lines of a chain, none if it does not exist."""
        return self.chains.get((table, chain), [])

    def _built_in(self, table: str, chain: str, line: str) -> list[str]:
        if chain not in BUILT_IN:
            raise ValueError(f"table {table!r} has no chain {chain}: {line}")
        return self.chains.setdefault((table, chain), [])

    def _command(self, table: str, line: str) -> None:
        if line[0] == ":":
            self._declare(table, line)
            return
        if line[0] == "[":
            self.feed(f"*{table}\n{_COUNTERS.sub('', line, count=1)}")
            return
        verb, chain, *rest = line.split(maxsplit=2)
        key = table, chain
        if verb == "-I":
            self._insert(table, chain, rest[0], line)
        elif verb == "-D":
            self._delete(table, chain, line)
        elif verb == "-N":
            self.chains.setdefault(key, [])
        elif verb == "-F":
            self.chains.get(key, []).clear()
        elif verb == "-X":
            self._remove(table, chain)
        else:
            raise ValueError(f"not a line of iptables-restore: {line}")

    def _declare(self, table: str, line: str) -> None:
        """`:CHAIN POLICY [counters]` creates a chain, or flushes it unless it is built in."""
        chain, policy = line[1:].split()[:2]
        if chain in BUILT_IN:
            self.chains.setdefault((table, chain), [])
            self.policies.pop((table, chain), None)
            if policy not in ("ACCEPT", "-"):
                self.policies[table, chain] = policy
        else:
            self.chains[table, chain] = []

    def _insert(self, table: str, chain: str, rest: str, line: str) -> None:
        """`-I CHAIN [number] rule`: inserts before the rule of that number, by default the first."""
        number, _, rule = rest.partition(" ")
        if not number.isdigit():
            number, rule = "1", rest
        self._built_in_or_own(table, chain, line).insert(int(number) - 1, f"-A {chain} {rule}")

    def _delete(self, table: str, chain: str, line: str) -> None:
        """`-D CHAIN rule`: deletes the first rule with the same text."""
        rules = self._built_in_or_own(table, chain, line)
        wanted = shlex.split(line)[2:]
        for place, rule in enumerate(rules):
            if shlex.split(rule)[2:] == wanted:
                del rules[place]
                return
        raise ValueError(f"table {table!r} has no such rule to delete: {line}")

    def _built_in_or_own(self, table: str, chain: str, line: str) -> list[str]:
        rules = self.chains.get((table, chain))
        return self._built_in(table, chain, line) if rules is None else rules

    def _remove(self, table: str, chain: str) -> None:
        """`-X CHAIN`: refused, as by the kernel, for a missing chain or one with rules."""
        if self.chains.get((table, chain)) != []:
            raise ValueError(f"-X {chain}: table {table!r} does not have that chain, or it has rules")
        del self.chains[table, chain]
