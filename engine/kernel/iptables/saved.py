"""Parses `iptables-save`, and finds a program's chains that other rules still jump to; pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping

from engine.backends.iptables.names import OF_SERVICES
from engine.backends.iptables.program import Rules, Table

Chains = Mapping[str, Collection[str]]
"""The rules of each chain of a table, without their `-A CHAIN`."""

_TARGET = re.compile(r"(?:^| )-[jg] (\S+)")


def parse(text: str) -> dict[str, dict[str, list[str]]]:
    """Rules by table and chain."""
    found: dict[str, dict[str, list[str]]] = {}
    chains: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            chains = found.setdefault(line[1:], {})
        elif line.startswith(":"):
            chains[line[1:].split(" ", 1)[0]] = []
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            chains.setdefault(chain, []).append(rule)
    return found


def stale(table: Table, chains: Iterable[str]) -> list[str]:
    """Existing chains of Services that a full program's table does not write (IPT-05)."""
    return [chain for chain in chains if chain.startswith(OF_SERVICES) and chain not in table.chains]


def held(table: Table, chains: Chains) -> list[str]:
    """Chains deleted by the table's part although a rule that it does not change jumps to them."""
    gone = {(edit.chain, edit.rule) for edit in table.edits if edit.verb == "-D"}
    ours = {*table.chains, *table.deleted}
    led_to = {
        target
        for chain, rules in chains.items()
        if chain not in ours
        for rule in rules
        if (chain, rule) not in gone
        for target in _TARGET.findall(rule)
    }
    return [chain for chain in table.deleted if chain in led_to]


def leaving(table: Table, chains: Collection[str]) -> Table:
    """The table's part with some chains flushed instead of deleted."""
    empty: dict[str, Rules] = dict.fromkeys(chains, ())
    deleted = tuple(chain for chain in table.deleted if chain not in empty)
    return dataclasses.replace(table, chains={**table.chains, **empty}, deleted=deleted)


def in_effect(table: Table, chains: Chains) -> bool:
    """Whether the table's edits and deletions have taken place."""
    edited = all((edit.rule in chains.get(edit.chain, ())) == (edit.verb != "-D") for edit in table.edits)
    return edited and not any(chain in chains for chain in table.deleted)
