"""An nftables program: rules as `nft -f` text, then elements of sets and maps.

Elements are raw register bytes, so that what is hashed is exactly what the kernel is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.backends.nftables.text import element_text

Element = tuple[bytes, bytes]


@dataclass(slots=True)
class SetChange:
    """Deletions (keys), then additions (key, data) of one named set or map; data is b"" in a set."""

    name: str
    delete: list[bytes] = field(default_factory=list)
    add: list[Element] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NftablesProgram:
    """One transaction for one family: `scripts` (the tool's own text) first, then the sets in order.

    With `start`, the scripts make the table anew and the sets fill it: the whole state.
    """

    family: int
    scripts: tuple[str, ...]
    sets: tuple[SetChange, ...]
    start: bool = False

    def __bool__(self) -> bool:
        return bool(self.scripts or self.sets)

    @property
    def operations(self) -> int:
        """Elements added and deleted."""
        return sum(len(change.delete) + len(change.add) for change in self.sets)

    def digest(self) -> bytes:
        """SHA-256 over script, set names and elements, each length-framed."""
        sha = hashlib.sha256(str(self.family).encode())
        for script in self.scripts:
            sha.update(f"{len(script)} {script}".encode())
        for change in self.sets:
            deletes, adds = change.delete, change.add
            sha.update(f"{change.name} {len(deletes)} {len(adds)}\n".encode())
            sha.update(b"".join(deletes))
            sha.update(b"".join(key + data for key, data in adds))
        return sha.digest()

    def text(self) -> str:
        """Input for `nft -f`: the scripts, then one line an element."""
        return "".join([*self.scripts, *self._element_lines()])

    def _element_lines(self) -> Iterator[str]:
        table = "ip kube-proxy" if self.family == 4 else "ip6 kube-proxy"
        for change in self.sets:
            for verb, elements in (("delete", [(key, b"") for key in change.delete]), ("add", change.add)):
                for key, data in elements:
                    yield f"{verb} element {table} {change.name} {{ {element_text(change.name, key, data)} }}\n"
