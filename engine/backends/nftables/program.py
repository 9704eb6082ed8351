"""An nftables program: rules as `nft -f` text, then elements of sets and maps.

Elements are raw register bytes, so that the hash covers exactly what is sent to the kernel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.backends.nftables.text import element_text
from engine.program import Section

_PIECE = 4096
_ELEMENTS_A_STATEMENT, _STATEMENTS_A_SECTION = 200, 4


@dataclass(slots=True)
class SetChange:
    """Deletions (keys), then additions of one named set or map.

    An added element is its key of `key_bytes` bytes, then its data if it is a map's, in one `bytes`: there are
    millions of them.  `moved` additions only move a remaining endpoint to another slot.
    """

    name: str
    delete: list[bytes] = field(default_factory=list)
    add: list[bytes] = field(default_factory=list)
    key_bytes: int = 0
    moved: int = 0

    def put(self, key: bytes, data: bytes = b"") -> None:
        """Add an element; all keys of a set have the same size."""
        self.key_bytes = len(key)
        self.add.append(key + data)

    @property
    def added(self) -> Iterator[tuple[bytes, bytes]]:
        """Key and data of each addition."""
        size = self.key_bytes
        return ((element[:size], element[size:]) for element in self.add)


class SetChanges(dict[str, SetChange]):
    """Changes by the name of their set; created when first asked for."""

    def __missing__(self, name: str) -> SetChange:
        """An empty change."""
        change = self[name] = SetChange(name)
        return change


class Part(NamedTuple):
    """A part of a full program that is known before the rest: scripts, or the first additions of a set."""

    scripts: tuple[str, ...] = ()
    change: SetChange | None = None
    until: int = 0


@dataclass(frozen=True, slots=True)
class NftablesProgram:
    """One transaction for one family: `scripts` (text for nft) first, then the sets in order.

    With `start`, the scripts create the table again and the sets fill it: a full program.
    """

    family: int
    scripts: tuple[str, ...]
    sets: tuple[SetChange, ...]
    start: bool = False

    def __bool__(self) -> bool:
        return bool(self.scripts or self.sets)

    @property
    def operations(self) -> int:
        """Elements added and deleted, without moves between slots.

        An endpoint's slot depends on the order of addresses, so moves are not counted: equal changes count equally.
        """
        return sum(len(change.delete) + len(change.add) - change.moved for change in self.sets)

    def digest(self) -> bytes:
        """SHA-256 over script, set names and elements, each length-framed."""
        sha = hashlib.sha256(str(self.family).encode())
        for script in self.scripts:
            sha.update(f"{len(script)} {script}".encode())
        for change in self.sets:
            deletes, adds = change.delete, change.add
            sha.update(f"{change.name} {len(deletes)} {len(adds)}\n".encode())
            for elements in (deletes, adds):
                for first in range(0, len(elements), _PIECE):
                    sha.update(b"".join(elements[first : first + _PIECE]))
        return sha.digest()

    def text(self) -> str:
        """Input for `nft -f`: the scripts, then the elements."""
        return "".join([*self.scripts, *self._statements()])

    def sections(self) -> tuple[Section, ...]:
        """For `nft`, in transactions that fit into an unprivileged socket's buffer."""
        texts = [*self.scripts]
        statements = list(self._statements())
        for first in range(0, len(statements), _STATEMENTS_A_SECTION):
            texts.append("".join(statements[first : first + _STATEMENTS_A_SECTION]))
        return tuple(Section("nft -f -", text) for text in texts)

    def _statements(self) -> Iterator[str]:
        """Statements with elements of one set each, one element per line."""
        table = "ip kube-proxy" if self.family == 4 else "ip6 kube-proxy"
        for change in self.sets:
            for verb, elements in (("delete", [(key, b"") for key in change.delete]), ("add", [*change.added])):
                for first in range(0, len(elements), _ELEMENTS_A_STATEMENT):
                    piece = elements[first : first + _ELEMENTS_A_STATEMENT]
                    lines = ",\n".join(f"  {element_text(change.name, key, data)}" for key, data in piece)
                    yield f"{verb} element {table} {change.name} {{\n{lines}\n}}\n"
