"""The interface of a backend: plans of Services in, the kernel's program out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

from engine.dataplane import PlanChange
from engine.model import HostAddresses, Name
from engine.program import Program

Made = TypeVar("Made", bound=Program, covariant=True)

NOTHING_DEGRADED: Mapping[Name, str] = MappingProxyType({})


class Backend(Protocol[Made]):
    """The programmed state of one family, created as `Backend(family, config)`.

    The first program of a backend does not depend on what the kernel held before, so a full sync is a new backend that
    receives all plans as additions.  A backend whose `plan` raised must not be used again; the Service that caused the
    error is left out of the next one.
    """

    @property
    def degraded(self) -> Mapping[Name, str]:
        """Services that are not programmed as specified, with a one-line reason to print."""

    def plan(self, changes: list[PlanChange], host: HostAddresses) -> Made:
        """The program from the state of the last call to the current one; falsy if nothing differs."""


Hand = Callable[[Any], None]
"""Called with each part of a full program as soon as it is known."""


@runtime_checkable
class Streaming(Protocol[Made]):
    """A backend that can hand over the parts of its first program while it computes the rest."""

    def prepare(self, hand: Hand) -> None:
        """Hand over the parts that the first program has in any case."""

    def plan_ahead(self, changes: Iterable[PlanChange], host: HostAddresses, hand: Hand) -> Made:
        """As the first `plan`; handed-over parts are also part of the returned program, which is complete."""
