"""Derives the programs of many nodes from one: that of a node without endpoints, plus each node's differences.

    reference   all Services as on a node without endpoints: one `PartsBackend` for all nodes of a zone
    cut         a few Services' parts of the reference's programs    } `PartsBackend`s with the reference's ids,
    own         the same Services' parts of this node's programs     } for each node
    hairpins    the node's endpoints that may connect to themselves
                        reference - cut + own + hairpins = the node's program, byte by byte

This works because the parts of a program are independent: endpoints and affinity are ordered by Service, everything
else by key; Services that share a key must all be among the few.  Pure.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.backends.nftables.layout import NftablesBackend, Parts, PoolKey
from engine.backends.nftables.numbers import kind_of
from engine.backends.nftables.program import NftablesProgram, SetChange
from engine.backends.nftables.skeleton import TRANSPORTS
from engine.config import ProxyConfig
from engine.dataplane import PlanChange
from engine.model import HostAddresses, Name

Chain = tuple[str, int]
Ids = dict[PoolKey, list[int]]


class Span(NamedTuple):
    """The ranges (start, end) of a Service's deletions and additions within a change of a set."""

    deleted: tuple[int, int]
    added: tuple[int, int]


Place = tuple[bool, int]
"""Whether endpoints are removed, and the protocol."""


class Block(NamedTuple):
    """A `SetChange` as bytes: deleted keys of `key_width` bytes, and added elements (key, data) of `width` bytes."""

    name: str
    key_width: int
    width: int
    deleted: bytes
    added: bytes
    moved: int = 0

    @property
    def sides(self) -> tuple[bytes, bytes]:
        """Deletions and additions."""
        return self.deleted, self.added

    @property
    def counts(self) -> tuple[int, int]:
        """The numbers of deletions and additions."""
        return len(self.deleted) // self.key_width, len(self.added) // self.width

    @property
    def operations(self) -> int:
        """The number of changed elements, as counted by a program."""
        return sum(self.counts) - self.moved

    @property
    def size(self) -> int:
        """The number of bytes to send."""
        return len(self.deleted) + len(self.added)


def block_of(change: SetChange) -> Block:
    """The change as bytes; ValueError if its elements differ in width."""
    keys = {len(key) for key in change.delete} | ({change.key_bytes} if change.add else set())
    widths = {*map(len, change.add)}
    if len(keys) > 1 or len(widths) > 1:
        raise ValueError(f"elements of {change.name} differ in size")
    key_width, width = max(keys, default=1), max(widths, default=1)
    return Block(change.name, key_width, width, b"".join(change.delete), b"".join(change.add), change.moved)


@dataclass(frozen=True)
class Recorded:
    """One program in parts; `spans` are the Services' own parts of the endpoint maps, in their order."""

    start: tuple[str, ...]
    chains: tuple[Chain, ...]
    timeouts: tuple[str, ...]
    endpoints: dict[Place, Block]
    spans: dict[Place, dict[Name, Span]]
    sticky: tuple[Block, ...]
    settled: dict[str, Block]
    last: tuple[Block, ...]

    @property
    def blocks(self) -> Iterator[Block]:
        """All sets."""
        yield from (*self.endpoints.values(), *self.sticky, *self.settled.values(), *self.last)


class PartsBackend(NftablesBackend):
    """A backend whose programs can be taken apart by Service.

    `taken` collects the ids of cluster-wide pools by pool; `given` are those that another backend has taken.
    """

    def __init__(self, family: int, config: ProxyConfig, given: Ids | None = None) -> None:
        super().__init__(family, config)
        self.taken: Ids = {}
        self.busy = False
        """Whether any Service of the node has changed, if this backend knows only some of them."""
        self._given = given
        self._used: dict[PoolKey, int] = {}
        self._spans: dict[Place, dict[Name, Span]] = {}
        self._known: tuple[Parts, list[SetChange]]
        self._timed: tuple[str, ...] = ()

    @property
    def owes(self) -> bool:
        """Whether a timeout has changed since the last program."""
        return self._affinity.owes

    def record(self, changes: list[PlanChange], host: HostAddresses) -> tuple[NftablesProgram, Recorded]:
        """The program, whole and in parts."""
        made, self._spans = set(self._made), {}
        program = self.plan(changes, host)
        parts, settled = self._known
        maps = {(False, p): change for p, change in parts.endpoints.items()}
        maps |= {(True, p): change for p, change in parts.removed.items()}
        last = [change for change in program.sets if change.name == "equal-bytes"]
        return program, Recorded(
            program.scripts[:1] if program.start else (),
            tuple(sorted(self._made - made)),
            self._timed,
            {place: block_of(change) for place, change in maps.items() if change.add or change.delete},
            self._spans,
            tuple(map(block_of, parts.sticky.values())),
            {change.name: block_of(change) for change in settled},
            tuple(map(block_of, last)),
        )

    def _replan(self, change: PlanChange, parts: Parts) -> None:
        before = _lengths(parts)
        super()._replan(change, parts)
        for place, (deleted, added) in _lengths(parts).items():
            was = before[place]
            if (deleted, added) != was:
                span = Span((was[0], deleted), (was[1], added))
                self._spans.setdefault(place, {})[change.service] = span

    def _in_order(self, parts: Parts, settled: list[SetChange]) -> list[SetChange]:
        self._known = parts, settled
        return super()._in_order(parts, settled)

    def _timeouts(self, changed: bool) -> Iterable[str]:
        self._timed = tuple(super()._timeouts(changed or self.busy))
        return self._timed

    def _take(self, key: PoolKey, large: bool) -> int | None:
        _, local = key
        if self._given is None or local:
            number = super()._take(key, large)
        else:
            used = self._used.get(key, 0)
            number, self._used[key] = self._given[key][used], used + 1
        if number is not None and not local:
            self.taken.setdefault(key, []).append(number)
        return number

    def _start(self) -> tuple[str, ...]:
        return super()._start() if self._given is None else ()

    def _node_addresses(self, host: HostAddresses) -> None:
        if self._first:  # views assume that a node's addresses do not change
            super()._node_addresses(host)

    def _give_back(self, number: int) -> None:
        if self._given is None or kind_of(number)[1]:
            super()._give_back(number)


def _lengths(parts: Parts) -> dict[Place, tuple[int, int]]:
    return {
        (gone, protocol): (len(change.delete), len(change.add))
        for gone, sets in ((False, parts.endpoints), (True, parts.removed))
        for protocol, change in sets.items()
    }


@dataclass(frozen=True)
class Different:
    """A node's differences from the reference: `cut` and `own` are those of the Services `few`.

    With `sticky` these include all Services with session affinity; otherwise none of their affinity elements differ.
    """

    cut: Recorded
    own: Recorded
    few: frozenset[Name]
    sticky: bool


def digest(family: int, scripts: Sequence[str], blocks: Iterable[Block]) -> bytes:
    """The digest of the `NftablesProgram` with these scripts and sets."""
    sha = hashlib.sha256(str(family).encode())
    for script in scripts:
        sha.update(f"{len(script)} {script}".encode())
    for block in blocks:
        if block.size:
            deletes, adds = block.counts
            sha.update(f"{block.name} {deletes} {adds}\n".encode())
            sha.update(block.deleted)
            sha.update(block.added)
    return sha.digest()


def combined(reference: Recorded, different: Different | None, extra: Mapping[str, Block]) -> Iterator[Block]:
    """The sets of a node's program, in order; `extra` are changes of sets that are ordered by key."""
    places = [(gone, protocol) for gone in (False, True) for protocol in TRANSPORTS]
    for gone in (False, True):
        for place in places:
            if place[0] == gone and (block := _endpoints(reference, different, place)):
                yield block
        if gone:
            break
        yield from different.own.sticky if different and different.sticky else reference.sticky
        cut, own = (different.cut.settled, different.own.settled) if different else ({}, {})
        for name in sorted({*reference.settled, *own, *extra}):
            yield _by_key(name, reference.settled.get(name), cut.get(name), own.get(name), extra.get(name))
    yield from reference.last


def _endpoints(reference: Recorded, different: Different | None, place: Place) -> Block | None:
    """The reference's elements by Service, with those of the few replaced by the node's own."""
    block = reference.endpoints.get(place)
    if different is None:
        return block
    own = different.own.endpoints.get(place)
    spans, mine = reference.spans.get(place, {}), different.own.spans.get(place, {})
    touched = sorted(different.few.intersection((*spans, *mine)))
    if not touched:
        return block
    block, own = _alike(block, own)
    names = list(spans)
    sides = []
    for side, width in enumerate((block.key_width, block.width)):
        cuts: list[Cut] = []
        for service in touched:
            here, there = _place_of(service, names, spans, block), mine.get(service, Span((0, 0), (0, 0)))
            cuts.append((*here[side], own.sides[side][there[side][0] * width : there[side][1] * width]))
        sides.append(_spliced(block.sides[side], width, cuts))
    return block._replace(deleted=sides[0], added=sides[1])


def _alike(one: Block | None, other: Block | None) -> tuple[Block, Block]:
    """Both blocks with the same width (unknown to a block without additions); None becomes an empty one."""
    known = one or other
    assert known, "at least one block is given"
    width = max(block.width for block in (one, other) if block)
    first, second = (block or known._replace(deleted=b"", added=b"", moved=0) for block in (one, other))
    return first._replace(width=width), second._replace(width=width)


def _place_of(service: Name, names: list[Name], spans: dict[Name, Span], block: Block) -> Span:
    """The position of a Service's elements; without any, the position before the next Service's."""
    if service in spans:
        return spans[service]
    after = bisect_left(names, service)
    deleted, added = (spans[names[after]][side][0] if after < len(names) else block.counts[side] for side in (0, 1))
    return Span((deleted, deleted), (added, added))


Cut = tuple[int, int, bytes]
"""A range of elements (start, end), and the bytes that replace it."""


def _spliced(blob: bytes, width: int, cuts: list[Cut]) -> bytes:
    pieces, at = [], 0
    for first, end, instead in cuts:
        pieces += [blob[at * width : first * width], instead]
        at = max(at, end)
    return b"".join([*pieces, blob[at * width :]])


class _Keys(Sequence[bytes]):
    """The keys of concatenated elements, as a sequence for bisection."""

    def __init__(self, blob: bytes, width: int, key_width: int) -> None:
        self._blob, self._width, self._key_width = blob, width, key_width

    def __len__(self) -> int:
        return len(self._blob) // self._width

    def __getitem__(self, place: Any) -> Any:
        return self._blob[place * self._width : place * self._width + self._key_width]


def _by_key(name: str, reference: Block | None, *others: Block | None) -> Block:
    """The reference's elements by key, without those of the first of `others`, plus those of the rest."""
    cut, *added = others
    found = [block for block in added if block]
    known = next(block for block in (reference, *found, cut) if block)
    if not cut and not found:
        return known
    width = max(block.width for block in (reference, *found, cut) if block)
    base = reference or Block(name, known.key_width, width, b"", b"")
    deleted, joined = (
        _exchanged(base.sides[n], each, known.key_width, cut.sides[n] if cut else b"", [b.sides[n] for b in found])
        for n, each in enumerate((known.key_width, width))
    )
    return Block(name, known.key_width, width, deleted, joined)


def _exchanged(blob: bytes, width: int, key_width: int, gone: bytes, new: list[bytes]) -> bytes:
    """Sorted elements without those with the keys of `gone`, and with those of `new`."""
    keys = _Keys(blob, width, key_width)
    cuts: list[tuple[int, bytes, Cut]] = []
    for element in _elements(gone, width):
        at = bisect_left(keys, element[:key_width])
        cuts.append((at, element[:key_width], (at, at + 1, b"")))
    for element in (each for one in new for each in _elements(one, width)):
        at = bisect_left(keys, element[:key_width])
        cuts.append((at, element, (at, at, element)))
    return _spliced(blob, width, [cut for _, _, cut in sorted(cuts)])


def _elements(blob: bytes, width: int) -> list[bytes]:
    return [blob[at : at + width] for at in range(0, len(blob), width)]
