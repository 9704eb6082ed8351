"""One module a proxy mode: how its kernel is opened, read back, and cleaned up.

    place (namespace, host, none) + mode -> Opened (kernel to program, view to judge it by)

Each module offers `COMMANDS` (programs it needs), `memory()`, `real(place)`, `leftovers(place)` and
`clean(place)`; `module_of` finds it by the mode's name.  A mode that not every kernel has offers
`missing(place)` too, and `UNPRIVILEGED = False` when it needs root outside of user namespaces,
and `TRANSLATES = False` when it leaves no flows in conntrack.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

MODES = ("iptables", "ipvs", "nftables", "userspace")


def module_of(mode: str) -> ModuleType:
    """The module of a mode in `MODES`."""
    return import_module(f"harness.modes.{mode}")


def user_namespace(module: ModuleType) -> bool:
    """Whether the mode's throwaway namespace gets a user namespace: always but for root, where that must not be."""
    return getattr(module, "UNPRIVILEGED", True) or os.geteuid() != 0
