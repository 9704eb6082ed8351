"""A program: what one sync asks of the kernel, as a value that hashes and counts itself.

Elements are raw register bytes, so that what is hashed is exactly what the kernel is sent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

Element = tuple[bytes, bytes]


@dataclass(slots=True)
class SetChange:
    """Deletions (keys), then additions (key, data) of one named set or map; data is b"" in a set."""

    name: str
    delete: list[bytes] = field(default_factory=list)
    add: list[Element] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Program:
    """One transaction for one family: `scripts` (the tool's own text) first, then the sets in order."""

    family: int
    scripts: tuple[str, ...]
    sets: tuple[SetChange, ...]

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
