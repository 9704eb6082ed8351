"""The interface of a program: a value that can be counted, hashed and printed.

A backend computes programs, a kernel of the same mode applies them; other code treats them as opaque.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Section(NamedTuple):
    """Text for a command's standard input; the command is "" if no tool reads it."""

    command: str
    text: str


class Program(Protocol):
    """What one sync sends to the kernel for one family (4 or 6); falsy if empty."""

    @property
    def family(self) -> int:
        """4 or 6."""

    @property
    def operations(self) -> int:
        """Elements, rules or entries added and deleted."""

    def digest(self) -> bytes:
        """SHA-256 of the content."""

    def text(self) -> str:
        """The content in the format of the kernel's tool, for people."""

    def sections(self) -> tuple[Section, ...]:
        """The content as input for the tools, in this order."""

    def __bool__(self) -> bool: ...
