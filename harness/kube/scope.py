"""The scope of a list and its watch."""

from __future__ import annotations

from typing import NamedTuple


class ResourceScope(NamedTuple):
    """A resource, in one namespace or ("") in all."""

    resource: str
    namespace: str = ""
