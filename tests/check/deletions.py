"""Deletes each part of a program in turn: the readback must detect its absence.

    python -m tests.check.deletions                       all of it, in every mode: minutes; 1 when something is unseen
    python -m tests.check.deletions --table docs/verification.md

Programs are what demo.jsonl and rules.jsonl end in, read once (of mode nftables from a kernel, else from memory) and
changed where they were read to.  The test suite takes some things of each shape.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from harness.judge.readback import userspace as userspace_check
from harness.judge.readback.compare import by_behaviour
from harness.modes import MODES, iptables, ipvs, mode_of, nftables
from harness.places.namespace import Namespace
from harness.places.place import Place
from tests.check.held import FAMILIES, Programmed, program
from tests.mutants.table import write_into

RECORDINGS = ("demo", "rules")
ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- deletions: begin -->", "<!-- deletions: end -->"
_OWN = re.compile(r'"[^"]*"|KUBE-(SVC|SVL|EXT|SEP|FW)-\S+|[0-9a-f.:]*\d[0-9a-f.:]*')
"""Patterns in which two parts of one shape differ."""

Undo = Callable[[], None]
Key = tuple[str, str]
"""A mode, and a kind of thing."""


class Thing(NamedTuple):
    """A part that can be missing: `take` removes it and returns a function that restores it."""

    kind: str
    name: str
    take: Callable[[], Undo]

    @property
    def shape(self) -> str:
        """The shape: equal for parts that differ only in names and numbers."""
        return f"{self.kind} {_OWN.sub('', self.name)}"


class Read(NamedTuple):
    """One family's program as read back; `judge` says how it differs from what should be there.

    `idle` are names of things that decide nothing: with or without them the same becomes of every packet.
    """

    things: list[Thing]
    judge: Callable[[], list[str]]
    idle: frozenset[str] = frozenset()


def _of_list(kind: str, name: str, items: list) -> Iterator[Thing]:
    for place, item in enumerate(items):

        def take(place=place, item=item) -> Undo:
            del items[place]
            return lambda: items.insert(place, item)

        yield Thing(kind, f"{name} {item if isinstance(item, str) else ' '.join(item)}", take)


def _of_dict(kind: str, items: dict, name: Callable[[Any], str] = str) -> Iterator[Thing]:
    for key in list(items):

        def take(key=key) -> Undo:
            before = dict(items)
            del items[key]

            def put_back() -> None:
                items.clear()
                items.update(before)

            return put_back

        yield Thing(kind, name(key), take)


def _of_set(kind: str, name: str, items: set) -> Iterator[Thing]:
    for item in sorted(items):

        def take(item=item) -> Undo:
            items.remove(item)
            return lambda: items.add(item)

        yield Thing(kind, f"{name} {item}", take)


def _of_tables(chains: dict) -> Iterator[Thing]:
    for (table, chain), rules in chains.items():
        yield from _of_list("rule", f"{table} {chain}", rules)
    yield from _of_dict("chain", chains, " ".join)


def _iptables(held: Any) -> Iterator[Thing]:
    built_in = {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
    yield from (t for t in _of_tables(held.tables.chains) if t.kind == "rule" or t.name.split()[1] not in built_in)


def _nftables(held: Any) -> Iterator[Thing]:
    for chain, rules in held.table.chains.items():
        yield from _of_list("rule", chain, rules)
    yield from _of_dict("chain", held.table.chains)
    yield from _of_dict("base chain's hook", held.table.hooks)
    yield from _of_dict("set", held.table.sets)
    for name, elements in held.sets.items():
        yield from _of_dict("element", elements, lambda key, name=name: f"{name} {key.hex()}")


def _ipvs(held: Any) -> Iterator[Thing]:
    yield from _iptables(held)
    yield from _of_dict("set", held.read.sets)
    for name, entries in held.read.sets.items():
        yield from _of_set("entry", name, entries)
    yield from _of_dict("virtual server", held.read.servers, _server)
    for server, weights in held.read.servers.items():
        name = _server(server)
        yield from _of_dict("destination", weights, lambda target, name=name: f"{name} {target[0].hex()}")
    yield from _of_set("address", "", held.read.addresses)
    yield from _of_dict("sysctl", held.sysctls)


def _server(key: tuple[bytes, int, int]) -> str:
    return f"{ipaddress.ip_address(key[0])} {key[1]}/{key[2]}"


def _userspace(said: dict[str, Any], addresses: set[str], sockets: set[str]) -> Iterator[Thing]:
    yield from _of_dict("frontend", said["rules"])
    yield from _of_dict("endpoint set", said["sets"])
    for name, endpoints in said["sets"].items():
        yield from _of_list("endpoint", name, endpoints["targets"])
    yield from _of_dict("list of sources", said.get("allowed", {}))
    for name, sources in said.get("allowed", {}).items():
        yield from _of_list("source", name, sources)
    yield from _of_list("node address", "", said.get("node_addresses", []))
    yield from _of_set("address", "", addresses)
    yield from _of_set("socket", "", sockets)


def _same_endpoints(held: Any) -> Iterator[str]:
    """Rules that exempt the node and its pods from policy Local, if all endpoints are local anyway."""
    chains = held.tables.chains
    for thing in _iptables(held):
        found = re.search(r"KUBE-EXT-\S+ -A .* -j KUBE-SVC-(\S+)$", thing.name)
        if found and "KUBE-MARK-MASQ" not in thing.name:
            both = [chains.get(("nat", f"KUBE-{kind}-{found[1]}"), []) for kind in ("SVC", "SVL")]
            ends = [{rule.split()[-1] for rule in rules if "KUBE-SEP" in rule} for rules in both]
            if ends[0] == ends[1]:
                yield thing.name


def _unused(held: Any) -> Iterator[str]:
    """Rules of external chains that nothing jumps to: another Service has the address that both want."""
    targets = {rule.split()[-1] for rules in held.tables.chains.values() for rule in rules}
    for (table, chain), rules in held.tables.chains.items():
        if chain.startswith("KUBE-EXT-") and chain not in targets:
            yield from (f"{table} {chain} {rule}" for rule in rules)


def _without_effect(held: Any) -> Iterator[str]:
    yield from _same_endpoints(held)
    yield from _unused(held)


def _closed_ports(said: dict[str, Any]) -> Iterator[str]:
    """Frontends that refuse everybody, and node ports where the node has no address, with their endpoints."""
    there = bool(said.get("node_addresses"))
    used = {rule[side] for name, rule in said["rules"].items() if there or name[0] != "*" for side in rule}
    for name, rule in said["rules"].items():
        if not (rule["inside"] or rule["outside"]) or not (there or name[0] != "*"):
            yield name
    for name in said["sets"].keys() - used:
        yield from (f"{name} {target}" for target in said["sets"][name]["targets"])


def read(mode: str, recording: str) -> dict[int, Read]:
    """The program that a recording of this project ends in, by family."""
    with ExitStack() as stack:
        module = mode_of(mode)
        if mode == "nftables":
            namespace = stack.enter_context(Namespace())
            opened = stack.enter_context(module.real(Place("netns", namespace.socket, namespace.run)))
        else:
            opened = module.memory()
        programmed = program(opened, mode, str(ROOT / "recordings" / f"{recording}.jsonl"))
        return {family: _READERS[mode](programmed, opened, family) for family in FAMILIES}


def _by_held(things: Callable[[Any], Iterator[Thing]], module: Any, name: str, idle: Any = lambda held: ()):
    def reader(programmed: Programmed, _: Any, family: int) -> Read:
        held = getattr(programmed.view, name)(family)
        wanted = programmed.expected[family], programmed.settings
        return Read(list(things(held)), lambda: module.judge(family, held, *wanted).differences, frozenset(idle(held)))

    return reader


def _by_account(programmed: Programmed, opened: Any, family: int) -> Read:
    tables = opened.kernel.tables[family]
    said = msgspec.json.decode(tables.everything().encoded())
    addresses, sockets = set(tables.addresses), set(tables.sockets())
    expected = programmed.expected[family]
    return Read(
        list(_userspace(said, addresses, sockets)),
        lambda: by_behaviour(lambda: userspace_check.behaviour_of(said, addresses, sockets), expected).differences,
        frozenset(_closed_ports(said)),
    )


_READERS = {
    "nftables": _by_held(_nftables, nftables, "read"),
    "iptables": _by_held(_iptables, iptables, "read", _without_effect),
    "ipvs": _by_held(_ipvs, ipvs, "state"),
    "userspace": _by_account,
}


def unseen(program: Read, things: list[Thing]) -> list[Thing]:
    """Parts that are not idle but whose absence is undetected; ValueError if the whole program already differs."""
    if found := program.judge():
        raise ValueError(f"the whole program differs: {found}")
    missed = []
    for thing in things:
        put_back = thing.take()
        if not program.judge() and thing.name not in program.idle:
            missed.append(thing)
        put_back()
    return missed


def sample(things: list[Thing], each: int) -> list[Thing]:
    """The given number of each shape."""
    seen: Counter[str] = Counter()
    return [thing for thing in things if seen.update([thing.shape]) or seen[thing.shape] <= each]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--mode", "modes", multiple=True, type=click.Choice(MODES), default=MODES)
@click.option("--table", type=click.Path(path_type=Path), help="Put the table into this Markdown file.")
def main(modes: tuple[str, ...], table: Path | None) -> None:
    """Remove every single part, in both recordings and families; exit code 1 if an absence is not detected."""
    taken: Counter[Key] = Counter()
    idle: Counter[Key] = Counter()
    missed: list[tuple[str, Thing]] = []
    for mode in modes:
        for recording in RECORDINGS:
            for family, found in read(mode, recording).items():
                gone = unseen(found, found.things)
                taken.update((mode, thing.kind) for thing in found.things)
                idle.update((mode, thing.kind) for thing in found.things if thing.name in found.idle)
                missed += [(mode, thing) for thing in gone]
                click.echo(f"{mode} {recording} IPv{family}: {len(found.things)} taken away, {len(gone)} unseen")
    for mode, thing in missed:
        click.echo(f"not seen: {mode}: {thing.kind} {thing.name}")
    if table:
        write_into(table, markdown(taken, idle, missed), BEGIN, END)
    sys.exit(1 if missed else 0)


def markdown(taken: Counter[Key], idle: Counter[Key], missed: list[tuple[str, Thing]]) -> str:
    """A row for each mode and kind of thing."""
    gone = Counter((mode, thing.kind) for mode, thing in missed)
    rows = []
    for key, count in taken.items():
        seen = count - idle[key] - gone[key]
        rows.append(f"| {key[0]} | {key[1]} | {count:,} | {seen:,} | {idle[key] or ''} | {gone[key] or ''} |")
    head = "| mode | one less | taken away | seen | decides nothing | unseen |"
    return "\n".join([head, "| --- " * 6 + "|", *rows])


if __name__ == "__main__":
    main()
