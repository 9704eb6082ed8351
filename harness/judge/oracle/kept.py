"""What is derived from all objects of a resource, and kept up to date object by object."""

from __future__ import annotations

from typing import Protocol, TypeVar

from harness.log.events import JsonObject


class Keeping(Protocol):
    """Something that is updated with every object that changes."""

    def replace(self, name: tuple[str, str], manifest: JsonObject | None) -> None:
        """An object changed, came, or is gone (None)."""


Kept = TypeVar("Kept", bound=Keeping)
