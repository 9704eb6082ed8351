"""Search path of the kernel's tools."""

from __future__ import annotations

import os

SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def add_sbin() -> None:
    """Add the sbin directories to PATH for nft, iptables and ip: on Debian only root has them in PATH."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([*folders, *(each for each in SBIN if each not in folders)])
