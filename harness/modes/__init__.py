"""The proxy modes, each a `Mode` value in a separate module.

place (namespace, host, none) + mode -> Opened (kernel to program, view to verify it with)
"""

from __future__ import annotations

from importlib import import_module

from harness.modes.mode import Mode

MODES = ("iptables", "ipvs", "nftables", "userspace")


def mode_of(name: str) -> Mode:
    """The mode with a name from `MODES`; its module is imported on first use."""
    mode: Mode = import_module(f"harness.modes.{name}").MODE
    return mode
