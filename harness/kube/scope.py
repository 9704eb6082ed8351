"""What of a resource is listed and watched."""

from __future__ import annotations

from typing import NamedTuple


class Scope(NamedTuple):
    """What one list and one watch cover: a resource, in one namespace or ("") in all."""

    resource: str
    namespace: str = ""
