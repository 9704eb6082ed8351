"""Values derived from all objects of a resource, updated object by object."""

from __future__ import annotations

from typing import Protocol, TypeVar

from harness.log.events import JsonObject


class Updated(Protocol):
    """A value that is updated with every changed object."""

    def replace(self, name: tuple[str, str], manifest: JsonObject | None) -> None:
        """An object was added, changed or deleted (None)."""


Derived = TypeVar("Derived", bound=Updated)
