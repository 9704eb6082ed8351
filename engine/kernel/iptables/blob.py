"""A table of ip_tables in the kernel's format: one sequence of entries, kept in memory and edited; pure.

    built-in chains by hook | user-defined chains by name | end
    chain: [beginning] rules policy          a jump holds the offset of the first rule of its chain

A change replaces chains, shifts the entries after them, and updates the jumps to these.  Chains stay sorted by name, as
the tool keeps them: it searches an unsorted table linearly for each jump.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import NamedTuple, TypeVar

from engine.backends.iptables.program import Edit, Table
from engine.kernel.iptables.entries import (
    COUNTS_AT,
    FALL_THROUGH,
    HEAD_BYTES,
    OFFSETS_AT,
    STANDARD_BYTES,
    TARGET_HEAD,
    VERDICT_FROM_END,
    VERDICTS,
    Rule,
    beginning,
    encode,
    policy,
)

HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
NEW = -1
Kept = list[tuple[int, int]]
"""Where entries come from: (first, count) for a run of old ones, or (NEW, count)."""

_END = "ERROR"
_ERROR = b"ERROR\0"
_LAST = "\U0010ffff"
_IN_PLACE = 8
"""With more changed chains than this, joining all pieces is cheaper than moving the entries after each."""

_offsets = struct.Struct("=HH").unpack_from
_verdict = struct.Struct("=i")


_Item = TypeVar("_Item", str, int)


class Unchangeable(Exception):
    """A change that these entries do not allow, such as deleting a missing rule; the message states why."""


class Info(NamedTuple):
    """The kernel's information about a table: its hooks, their entry points and policies, and its size."""

    hooks: int
    begins: tuple[int, ...]
    policies: tuple[int, ...]
    entries: int
    size: int


class _Draft:
    """The new content of a chain: its rules, and for each the index of its old entry, or NEW."""

    def __init__(self, rules: list[Rule], was: list[int]) -> None:
        self.rules, self.was = rules, was

    def edit(self, verb: str, rule: Rule) -> bool:
        """False if a rule to be deleted is missing."""
        if verb == "-D":
            if rule not in self.rules:
                return False
            at = self.rules.index(rule)
            del self.rules[at], self.was[at]
        else:
            at = len(self.rules) if verb == "-A" else 0
            self.rules.insert(at, rule)
            self.was.insert(at, NEW)
        return True


Jumps = tuple[tuple[int, str], ...]
"""The positions of verdicts in a chain, and the chains they jump to."""


class _Made(NamedTuple):
    """The new content of a chain, and the origin of its entries."""

    data: bytes
    jumps: Jumps
    entries: int
    was: Kept


class Blob:
    """One table of one family; `data` is `room` bytes for a header, then the kernel's format."""

    def __init__(self, family: int, info: Info, data: bytes | bytearray, room: int) -> None:
        self.data = bytearray(room) + data
        self._family, self._room, self._hooks = family, room, info.hooks
        self._head = HEAD_BYTES[family]
        self._opening_bytes = len(beginning(_END, family))
        self._built_in = [name for hook, name in enumerate(HOOKS) if info.hooks >> hook & 1]
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._entries: list[int] = []
        self._jumps: dict[str, Jumps] = {}
        self._reaching: dict[str, dict[str, None]] = {}
        self._shapes: dict[Jumps, Jumps] = {}
        self._read({info.begins[HOOKS.index(name)]: name for name in self._built_in})
        self._number()
        users = self._names[len(self._built_in) :]
        if self._names[: len(self._built_in)] != self._built_in or users != sorted(users):
            raise Unchangeable("its chains are not sorted")

    @property
    def info(self) -> Info:
        """The information that the kernel will report about it."""
        begins, policies = [0] * len(HOOKS), [0] * len(HOOKS)
        for at, name in enumerate(self._built_in):
            begins[HOOKS.index(name)] = self._starts[at]
            policies[HOOKS.index(name)] = self._starts[at + 1] - self._head - STANDARD_BYTES
        return Info(self._hooks, tuple(begins), tuple(policies), self._firsts[-1] + 1, len(self.data) - self._room)

    @property
    def chains(self) -> list[str]:
        """The names of chains, built-in ones first."""
        return self._names

    def lacks(self, chain: str, rules: Iterable[str]) -> list[str]:
        """The given rules that are not in the chain."""
        held = set(self._rules(chain))
        return [rule for rule in rules if encode(rule, self._family) not in held]

    def change(self, table: Table) -> Kept:
        """Apply a program's part.

        After Unchangeable, or ValueError for an unsupported rule, the blob must be discarded.
        """
        drafts: dict[str, _Draft] = {}
        for name, rules in table.chains.items():
            drafts[name] = _Draft([encode(rule, self._family) for rule in rules], [NEW] * len(rules))
        for edit in table.edits:
            self._edit(drafts, edit)
        changes: dict[str, _Made | None] = dict.fromkeys(table.deleted)
        changes |= {name: self._made(name, draft, name in table.chains) for name, draft in drafts.items()}
        return self._perform(changes) if changes else [(0, self._firsts[-1])]

    def _edit(self, drafts: dict[str, _Draft], edit: Edit) -> None:
        if edit.chain not in drafts:
            rules, opening = self._rules(edit.chain), self._opening(edit.chain)
            drafts[edit.chain] = _Draft(rules, [*range(opening, opening + len(rules))])
        if not drafts[edit.chain].edit(edit.verb, encode(edit.rule, self._family)):
            raise Unchangeable(f"no such rule in {edit.chain}: {edit.rule}")

    def _opening(self, name: str) -> int:
        """The number of entries before a chain's rules."""
        return 0 if name in self._built_in else 1

    def _place(self, name: str) -> tuple[int, bool]:
        """A chain's index, or its insertion index; and whether it exists."""
        if name in self._built_in:
            return self._built_in.index(name), True
        at = bisect_left(self._names, name, len(self._built_in))
        return at, at < len(self._names) and self._names[at] == name

    def _made(self, name: str, draft: _Draft, written: bool) -> _Made:
        """Chains that are rewritten count from zero."""
        at, there = self._place(name)
        opening = beginning(name, self._family) if self._opening(name) else b""
        offset, jumps = len(opening), []
        for entry, jump in draft.rules:
            offset += len(entry)
            if jump is not None:
                jumps.append((offset - VERDICT_FROM_END, jump))
        closing = self._policy(at) if there else policy(VERDICTS["RETURN"], self._family)
        data = b"".join([opening, *(rule.entry for rule in draft.rules), closing])
        entries = self._opening(name) + len(draft.rules) + 1
        was = [(NEW, entries)]
        if there and not written:
            was = [(each, 1) for each in (*range(self._opening(name)), *draft.was, self._entries[at] - 1)]
        return _Made(data, tuple(jumps), entries, was)

    def _policy(self, at: int) -> bytes:
        end = self._room + self._starts[at + 1]
        return bytes(self.data[end - self._head - STANDARD_BYTES : end])

    def _rules(self, name: str) -> list[Rule]:
        """A chain's entries without its beginning and its policy."""
        number, there = self._place(name)
        if not there:
            raise Unchangeable(f"no chain {name}")
        targets = dict(self._jumps.get(name, ()))
        found = []
        start, at = self._room + self._starts[number], 0
        for _ in range(self._entries[number]):
            end = at + _offsets(self.data, start + at + OFFSETS_AT[self._family])[1]
            target = targets.get(end - VERDICT_FROM_END)
            entry = self.data[start + at : start + end]
            if target is not None:
                _verdict.pack_into(entry, len(entry) - VERDICT_FROM_END, 0)
            found.append(Rule(bytes(entry), target))
            at = end
        return found[self._opening(name) : -1]

    def _perform(self, changes: dict[str, _Made | None]) -> Kept:
        """Insert and remove chains; returns the origin of the entries."""
        places = [(*self._place(name), name) for name in sorted(changes)]
        places.sort(key=lambda place: place[:2])  # a new chain is inserted before the one with its index
        missing = [name for _, there, name in places if changes[name] is None and not there]
        if missing:
            raise Unchangeable(f"no chain {missing[0]} to delete")
        kept = self._kept(places, changes)
        made = [(at, at + there, name, changes[name]) for at, there, name in places]
        offsets, room = self._starts, self._room
        self.data = _joined(
            self.data, [(room + offsets[at], room + offsets[end], new.data if new else b"") for at, end, _, new in made]
        )
        self._names = _spliced(self._names, [(at, end, name if new else None) for at, end, name, new in made])
        self._sizes = _spliced(self._sizes, [(at, end, len(new.data) if new else None) for at, end, _, new in made])
        self._entries = _spliced(self._entries, [(at, end, new.entries if new else None) for at, end, _, new in made])
        for name, new in changes.items():
            self._lead(name, new.jumps if new else ())
        self._number()
        self._link("" if changes.keys() & set(self._built_in) else min(changes), changes)
        return kept

    def _kept(self, places: list[tuple[int, bool, str]], changes: Mapping[str, _Made | None]) -> Kept:
        kept: Kept = []
        done = 0
        for at, there, name in places:
            first, new = self._firsts[at], changes[name]
            kept.append((done, first - done))
            if new:
                kept += [(NEW if each == NEW else first + each, count) for each, count in new.was]
            done = first + self._entries[at] if there else first
        return [*kept, (done, self._firsts[-1] - done)]

    def _number(self) -> None:
        """The offset and the index of each chain's first entry, and those of the end."""
        self._starts = [*accumulate(self._sizes, initial=0)]
        self._firsts = [*accumulate(self._entries, initial=0)]

    def _lead(self, name: str, jumps: Jumps) -> None:
        """Record the jump targets of a chain, keyed by the last of them by name."""
        if before := self._jumps.pop(name, ()):
            self._reaching[_reach(before)].pop(name)
        if jumps:
            self._jumps[name] = jumps = self._shapes.setdefault(jumps, jumps)
            self._reaching.setdefault(_reach(jumps), {})[name] = None

    def _link(self, lowest: str, changed: Iterable[str]) -> None:
        """Update the jumps in changed chains, and those to `lowest` and later chains, which have moved."""
        starts = dict(zip(self._names, self._starts, strict=False))
        data, room, opening, pack = self.data, self._room, self._opening_bytes, _verdict.pack_into
        led = [names for reach, names in self._reaching.items() if reach >= lowest]
        near = (name for name in changed if name in self._jumps and _reach(self._jumps[name]) < lowest)
        for name in chain(*led, near):
            start = starts[name]
            base = room + start
            try:
                for at, target in self._jumps[name]:
                    if target:
                        pack(data, base + at, starts[target] + opening)
                    else:
                        pack(data, base + at, start + at + VERDICT_FROM_END)
            except KeyError as error:
                raise Unchangeable(f"a rule of {name} jumps to {error}, which is absent or to be deleted") from None

    def _read(self, built_in: Mapping[int, str]) -> None:
        """Split into entries, with the kernel's internal fields cleared."""
        data, room, offset = self.data, self._room, 0
        size, blank = len(data) - room, bytes(self._head - COUNTS_AT[self._family])
        at_offsets, at_counts, head = OFFSETS_AT[self._family], COUNTS_AT[self._family], self._head
        begins, entries = [], 0
        jumps: list[tuple[int, int]] = []
        names: dict[int, str] = {}
        while offset < size:
            at = room + offset
            target, following = _offsets(data, at + at_offsets)
            data[at + at_counts : at + head] = blank
            target += at + 2
            if offset in built_in:
                begins.append((offset, entries, len(jumps)))
                self._names.append(built_in[offset])
            if not data[target]:
                (verdict,) = _verdict.unpack_from(data, target + TARGET_HEAD - 2)
                if verdict >= 0:
                    jumps.append((offset + following - VERDICT_FROM_END, verdict))
            elif data[target : target + len(_ERROR)] == _ERROR:
                begins.append((offset, entries, len(jumps)))
                field = data[target + TARGET_HEAD - 2 : target + TARGET_HEAD + 28]
                names[offset + following] = field.split(b"\0", 1)[0].decode()
                self._names.append(names[offset + following])
            entries += 1
            offset += following
        self._names.pop()  # the end of the table
        for name, (start, first, jump), (end, last, until) in zip(self._names, begins[:-1], begins[1:], strict=True):
            self._sizes.append(end - start)
            self._entries.append(last - first)
            self._lead(name, tuple((where - start, _led(where, to, names)) for where, to in jumps[jump:until]))


def _led(where: int, verdict: int, names: Mapping[int, str]) -> str:
    """The target chain of a jump; none if it only continues with the next rule."""
    return FALL_THROUGH if verdict == where + VERDICT_FROM_END else names[verdict]


def _reach(jumps: Jumps) -> str:
    """The last of its target chains by name; a rule that continues with the next one moves with any change."""
    return max((target or _LAST for _, target in jumps), default="")


def _spliced(whole: list[_Item], splices: Sequence[tuple[int, int, _Item | None]]) -> list[_Item]:
    """Replace each part by one item, or none; the parts are in order."""
    found: list[_Item] = []
    done = 0
    for start, end, item in splices:
        if done < start:
            found += whole[done:start]
        if item is not None:
            found.append(item)
        done = end
    return found + whole[done:]


def _joined(whole: bytearray, splices: Sequence[tuple[int, int, bytes]]) -> bytearray:
    """Replace parts of bytes; in place if there are few."""
    if len(splices) <= _IN_PLACE:
        for start, end, new in reversed(splices):
            whole[start:end] = new
        return whole
    pieces: list[bytes | bytearray] = []
    done = 0
    for start, end, new in splices:
        if done < start:
            pieces.append(whole[done:start])
        pieces.append(new)
        done = end
    return bytearray().join([*pieces, whole[done:]])
