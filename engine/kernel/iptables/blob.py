"""A table of ip_tables in the kernel's format: one sequence of entries, kept in memory and edited; pure.

    built-in chains by hook | user-defined chains by name | end
    chain: [beginning] rules policy          a jump holds the offset of the first rule of its chain

A change replaces chains, shifts the entries after them, and updates the jumps to these.  Chains stay sorted by name, as
the tool keeps them: it searches an unsorted table linearly for each jump.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from engine.backends.iptables.program import Edit, Rules, Table
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
Kept = Iterable[tuple[int, int]]
"""Where entries come from: (first, count) for a run of old ones, or (NEW, count)."""

_END = "ERROR"
_ERROR = b"ERROR\0"
_LAST = "\U0010ffff"
_IN_PLACE = 8
"""With more changed chains than this, joining all pieces is cheaper than moving the entries after each."""

_offsets = struct.Struct("=HH").unpack_from
_verdict = struct.Struct("=i")


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


_Content = _Draft | Rules | None
"""An edited chain, one that is written whole, or a deleted one."""
Jumps = tuple[tuple[int, str], ...]
"""The positions of verdicts in a chain, and the chains they jump to."""
_Row = tuple[str, int, int, Jumps]
"""A chain's name, bytes, entries and jumps."""
_Led = tuple[str, Jumps]
"""A chain's jumps, after the last of their targets by name."""


class _Chains:
    """The chains of a table in order: of each its name, its bytes, its entries, and its jumps."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sizes: list[int] = []
        self.entries: list[int] = []
        self.jumps: list[_Led] = []

    def add(self, name: str, size: int, entries: int, jumps: Jumps) -> None:
        self.names.append(name)
        self.sizes.append(size)
        self.entries.append(entries)
        self.jumps.append(_led(jumps))

    def replaced(self, parts: Sequence[tuple[int, int, _Row | None]]) -> _Chains:
        """With each part replaced by one chain, or none; in place if there are few parts, which are in order."""
        if len(parts) <= _IN_PLACE:
            for start, end, row in reversed(parts):
                self.names[start:end], self.sizes[start:end] = ([row[0]], [row[1]]) if row else ((), ())
                self.entries[start:end], self.jumps[start:end] = ([row[2]], [_led(row[3])]) if row else ((), ())
            found = self
        else:
            found, done = _Chains(), 0
            for start, end, row in parts:
                if done < start:
                    found._copy(self, done, start)
                if row:
                    found.add(*row)
                done = end
            found._copy(self, done, len(self.names))
        found.number()
        return found

    def _copy(self, other: _Chains, start: int, end: int) -> None:
        self.names += other.names[start:end]
        self.sizes += other.sizes[start:end]
        self.entries += other.entries[start:end]
        self.jumps += other.jumps[start:end]

    def number(self) -> None:
        """Find the offset and the index of each chain's first entry, and those of the end."""
        self.starts = [*accumulate(self.sizes, initial=0)]
        self.firsts = [*accumulate(self.entries, initial=0)]


class Blob:
    """One table of one family; `data` is `room` bytes for a header, then the kernel's format."""

    def __init__(self, family: int, info: Info, data: bytes | bytearray, room: int) -> None:
        self.data = bytearray(room) + data
        self._family, self._room, self._hooks = family, room, info.hooks
        self._head = HEAD_BYTES[family]
        self._opening_bytes = len(beginning(_END, family))
        self._built_in = [name for hook, name in enumerate(HOOKS) if info.hooks >> hook & 1]
        self._chains = self._read({info.begins[HOOKS.index(name)]: name for name in self._built_in})
        users = self.chains[len(self._built_in) :]
        if self.chains[: len(self._built_in)] != self._built_in or users != sorted(users):
            raise Unchangeable("its chains are not sorted")

    @property
    def info(self) -> Info:
        """The information that the kernel will report about it."""
        begins, policies = [0] * len(HOOKS), [0] * len(HOOKS)
        for at, name in enumerate(self._built_in):
            begins[HOOKS.index(name)] = self._chains.starts[at]
            policies[HOOKS.index(name)] = self._chains.starts[at + 1] - self._head - STANDARD_BYTES
        return Info(
            self._hooks, tuple(begins), tuple(policies), self._chains.firsts[-1] + 1, len(self.data) - self._room
        )

    @property
    def chains(self) -> list[str]:
        """The names of chains, built-in ones first."""
        return self._chains.names

    def lacks(self, chain: str, rules: Iterable[str]) -> list[str]:
        """The given rules that are not in the chain."""
        held = set(self._rules(chain))
        return [rule for rule in rules if encode(rule, self._family) not in held]

    def change(self, table: Table) -> Kept:
        """Apply a program's part.

        After Unchangeable, or ValueError for an unsupported rule, the blob must be discarded.
        """
        changes: dict[str, _Content] = {**dict.fromkeys(table.deleted), **table.chains}
        for edit in table.edits:
            changes[edit.chain] = self._edited(edit, changes.get(edit.chain))
        return self._perform(changes) if changes else [(0, self._chains.firsts[-1])]

    def _edited(self, edit: Edit, content: _Content) -> _Draft:
        if content is None:
            rules, opening = self._rules(edit.chain), self._opening(edit.chain)
            content = _Draft(rules, [*range(opening, opening + len(rules))])
        elif not isinstance(content, _Draft):
            content = _Draft([encode(rule, self._family) for rule in content], [NEW] * len(content))
        if not content.edit(edit.verb, encode(edit.rule, self._family)):
            raise Unchangeable(f"no such rule in {edit.chain}: {edit.rule}")
        return content

    def _opening(self, name: str) -> int:
        """The number of entries before a chain's rules."""
        return 0 if name in self._built_in else 1

    def _place(self, name: str) -> tuple[int, bool]:
        """A chain's index, or its insertion index; and whether it exists."""
        if name in self._built_in:
            return self._built_in.index(name), True
        at = bisect_left(self.chains, name, len(self._built_in))
        return at, at < len(self.chains) and self.chains[at] == name

    def _rules(self, name: str) -> list[Rule]:
        """A chain's entries without its beginning and its policy."""
        number, there = self._place(name)
        if not there:
            raise Unchangeable(f"no chain {name}")
        targets = dict(self._chains.jumps[number][1])
        found: list[Rule] = []
        start, at = self._room + self._chains.starts[number], 0
        for _ in range(self._chains.entries[number]):
            end = at + _offsets(self.data, start + at + OFFSETS_AT[self._family])[1]
            target = targets.get(end - VERDICT_FROM_END)
            entry = self.data[start + at : start + end]
            if target is not None:
                _verdict.pack_into(entry, len(entry) - VERDICT_FROM_END, 0)
            found.append((bytes(entry), target))
            at = end
        return found[self._opening(name) : -1]

    def _perform(self, changes: Mapping[str, _Content]) -> Kept:
        """Insert and remove chains; returns the origin of the entries."""
        places = sorted((*self._place(name), name) for name in changes)  # a new chain comes before that with its index
        starts, firsts = self._chains.starts, self._chains.firsts
        parts: list[tuple[int, int, _Row | None]] = []
        splices: list[_Splice] = []
        for at, there, name in places:
            end = at + there
            pieces: list[bytes] = []
            row = None
            if (content := changes[name]) is not None:
                pieces, jumps = self._pieces(name, content, at if there else None)
                row = name, sum(map(len, pieces)), len(pieces), jumps
            elif not there:
                raise Unchangeable(f"no chain {name} to delete")
            parts.append((at, end, row))
            splices.append((self._room + starts[at], self._room + starts[end], pieces))
        self.data, self._chains = _joined(self.data, splices), self._chains.replaced(parts)
        self._link("" if changes.keys() & set(self._built_in) else places[0][2], changes)
        return self._kept(firsts, places, changes)

    def _pieces(self, name: str, content: _Draft | Rules, at: int | None) -> tuple[list[bytes], Jumps]:
        """The entries of a chain, which may have an old one's index."""
        family = self._family
        pieces = [beginning(name, family)] if self._opening(name) else []
        jumps: list[tuple[int, str]] = []
        size = sum(map(len, pieces))
        for entry, jump in content.rules if isinstance(content, _Draft) else [encode(rule, family) for rule in content]:
            pieces.append(entry)
            size += len(entry)
            if jump is not None:
                jumps.append((size - VERDICT_FROM_END, jump))
        pieces.append(policy(VERDICTS["RETURN"], family) if at is None else self._policy(at))
        return pieces, tuple(jumps)

    def _policy(self, at: int) -> bytes:
        end = self._room + self._chains.starts[at + 1]
        return bytes(self.data[end - self._head - STANDARD_BYTES : end])

    def _kept(self, firsts: list[int], places: list[tuple[int, bool, str]], changes: Mapping[str, _Content]) -> Kept:
        """Only found when it is needed, by the former indices.  Chains that are rewritten count from zero."""
        done = 0
        for at, there, name in places:
            first, content = firsts[at], changes[name]
            yield done, first - done
            done = firsts[at + there]
            rules = content.rules if isinstance(content, _Draft) else content
            if isinstance(content, _Draft) and there:
                yield first, self._opening(name)
                yield from ((NEW if each == NEW else first + each, 1) for each in content.was)
                yield done - 1, 1
            elif rules is not None:
                yield NEW, self._opening(name) + len(rules) + 1
        yield done, firsts[-1] - done

    def _link(self, lowest: str, changed: Collection[str]) -> None:
        """Update the jumps in changed chains, and those to `lowest` and later chains, which have moved."""
        chains, opening = self._chains, self._opening_bytes
        starts = dict(zip(chains.names, chains.starts, strict=False))
        late = [at for at, (reach, _) in enumerate(chains.jumps) if reach >= lowest]
        near = [self._place(name)[0] for name in changed if lowest and name in starts]
        with memoryview(self.data)[self._room :].cast("i") as words:
            for number in (*late, *near):
                start = chains.starts[number]
                try:
                    for at, target in chains.jumps[number][1]:
                        to = starts[target] + opening if target else start + at + VERDICT_FROM_END
                        words[start + at >> 2] = to
                except KeyError as error:
                    why = f"a rule of {chains.names[number]} jumps to {error}, which is absent or to be deleted"
                    raise Unchangeable(why) from None

    def _read(self, built_in: Mapping[int, str]) -> _Chains:
        """Split into entries, with the kernel's internal fields cleared."""
        data, room, offset = self.data, self._room, 0
        size, blank = len(data) - room, bytes(self._head - COUNTS_AT[self._family])
        at_offsets, at_counts, head = OFFSETS_AT[self._family], COUNTS_AT[self._family], self._head
        begins, entries = [], 0
        jumps: list[tuple[int, int]] = []
        names: dict[int, str] = {}
        order: list[str] = []
        while offset < size:
            at = room + offset
            target, following = _offsets(data, at + at_offsets)
            data[at + at_counts : at + head] = blank
            target += at + 2
            if offset in built_in:
                begins.append((offset, entries, len(jumps)))
                order.append(built_in[offset])
            if not data[target]:
                (verdict,) = _verdict.unpack_from(data, target + TARGET_HEAD - 2)
                if verdict >= 0:
                    jumps.append((offset + following - VERDICT_FROM_END, verdict))
            elif data[target : target + len(_ERROR)] == _ERROR:
                begins.append((offset, entries, len(jumps)))
                field = data[target + TARGET_HEAD - 2 : target + TARGET_HEAD + 28]
                names[offset + following] = field.split(b"\0", 1)[0].decode()
                order.append(names[offset + following])
            entries += 1
            offset += following
        found = _Chains()
        order.pop()  # the end of the table
        for name, (start, first, jump), (end, last, until) in zip(order, begins[:-1], begins[1:], strict=True):
            led = tuple((where - start, _target(where, to, names)) for where, to in jumps[jump:until])
            found.add(name, end - start, last - first, led)
        found.number()
        return found


def _target(where: int, verdict: int, names: Mapping[int, str]) -> str:
    """The target chain of a jump; none if it only continues with the next rule."""
    return FALL_THROUGH if verdict == where + VERDICT_FROM_END else names[verdict]


@lru_cache(maxsize=1024)
def _led(jumps: Jumps) -> _Led:
    """Cached, as most chains have the same; a rule that continues with the next one moves with any change."""
    return max((target or _LAST for _, target in jumps), default=""), jumps


_Splice = tuple[int, int, list[bytes]]


def _joined(whole: bytearray, splices: Sequence[_Splice]) -> bytearray:
    """Replace parts of bytes; in place if there are few."""
    if len(splices) <= _IN_PLACE:
        for start, end, new in reversed(splices):
            whole[start:end] = b"".join(new)
        return whole
    pieces: list[bytes | bytearray] = []
    done = 0
    for start, end, new in splices:
        if done < start:
            pieces.append(whole[done:start])
        pieces += new
        done = end
    return bytearray().join([*pieces, whole[done:]])
