"""What every backend's program is: a value that counts, hashes and prints itself.

A backend computes programs, a kernel of the same mode makes them live; nothing else looks inside.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Section(NamedTuple):
    """Text to feed to a command's standard input; "" where no tool takes it."""

    command: str
    text: str


class Program(Protocol):
    """What one sync asks of the kernel for one family (4 or 6); falsy when it asks for nothing."""

    @property
    def family(self) -> int:
        """4 or 6."""

    @property
    def operations(self) -> int:
        """Elements, rules or entries added and deleted."""

    def digest(self) -> bytes:
        """SHA-256 of everything that is asked for."""

    def text(self) -> str:
        """The same in the kernel tool's own words, to be read."""

    def sections(self) -> tuple[Section, ...]:
        """The same, ready to be fed to the tools, in this order."""

    def __bool__(self) -> bool: ...
