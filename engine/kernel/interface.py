"""The interface of a kernel."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from engine.program import Program

if TYPE_CHECKING:  # a process that only uses netlink must not import most of the engine
    from engine.conntrack import Stale

Taken = TypeVar("Taken", bound=Program, contravariant=True)


class KernelError(RuntimeError):
    """The kernel or its tool rejected a program; the message has the reason."""


class Intact(Enum):
    """Whether applied rules still exist; UNKNOWN if the check failed."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, parts: Iterable[Intact]) -> Intact:
        """NO if any part is NO, else UNKNOWN if any is UNKNOWN, else YES."""
        found = set(parts)
        return next((answer for answer in (cls.NO, cls.UNKNOWN) if answer in found), cls.YES)


class Applied(NamedTuple):
    """Bytes sent for one program."""

    bytes: int


class Kernel(Protocol[Taken]):
    """A target for programs of its mode, applied atomically where possible."""

    def apply(self, program: Taken) -> Applied:
        """Apply the program; KernelError on failure."""


KernelOfMode = Kernel[Any]
"""Accepts programs of its own mode, which is only known at run time."""


@runtime_checkable
class TakesParts(Protocol):
    """A kernel that accepts parts ahead of a full program, without any effect until it is complete."""

    def ahead(self, family: int, part: Any) -> None:
        """Send a part of the family's next program; it may wait for an earlier part, but never fails."""

    def abandon(self, families: Collection[int]) -> None:
        """Remove the parts sent ahead of programs that are not applied."""


class Conntrack(Protocol):
    """The kernel's conntrack table."""

    def remove(self, family: int, stale: Stale) -> int:
        """Delete the stale UDP flows of a family and return their number; KernelError on failure."""
