"""Opens what a replay programs: a throwaway namespace, memory, or (only when spelled out) the host."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from engine.kernel.base import Kernel
from harness.modes import module_of
from harness.modes.place import Opened, Place, View
from harness.namespace import Namespace, NamespaceError


class KernelUnavailable(RuntimeError):
    """The kernel asked for is not to be had; the message names the way out."""


class Target(NamedTuple):
    """A kernel with its view, what to print of it, and the place it is in (None in memory)."""

    kernel: Kernel
    view: View
    facts: dict[str, str]
    place: Place | None


@contextmanager
def open_kernel(kind: str, mode: str) -> Iterator[Target]:
    """`kind` is auto, netns, memory or host. Raises KernelUnavailable."""
    module = module_of(mode)
    if kind == "memory":
        yield _in_memory(module.memory(), {})
    elif kind == "host":
        yield from _on_host(module)
    else:
        yield from _in_namespace(module, fall_back=kind == "auto")


def _in_memory(opened: Opened, extra: dict[str, str]) -> Target:
    return Target(opened.kernel, opened.view, {"kind": "memory", **extra}, None)


def _in_namespace(module, fall_back: bool) -> Iterator[Target]:
    try:
        _require(module)
        namespace = Namespace()
        namespace.__enter__()
    except (KernelUnavailable, NamespaceError) as error:
        if not fall_back:
            raise KernelUnavailable(str(error)) from None
        yield _in_memory(module.memory(), {"reason": str(error)})
        return
    try:
        yield from _real(module, Place("netns", namespace.socket, namespace.run))
    finally:
        namespace.__exit__()


def _on_host(module) -> Iterator[Target]:
    if os.geteuid() != 0:
        raise KernelUnavailable("--kernel host programs this machine's own rules and needs root")
    _require(module)

    def run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, input=stdin, capture_output=True, check=False)

    place = Place("host", socket.socket, run)
    found = module.leftovers(place)
    if found:
        raise KernelUnavailable(f"this host has {found} already: a proxy runs here, or ran; remove it first")
    try:
        yield from _real(module, place)
    finally:
        module.clean(place)


def _real(module, place: Place) -> Iterator[Target]:
    with module.real(place) as opened:
        facts = {"kind": place.kind, "release": platform.release(), **opened.tools}
        yield Target(opened.kernel, opened.view, facts, place)


def _require(module) -> None:
    missing = [f"{command} (package {package})" for command, package in module.COMMANDS.items() if not _found(command)]
    if missing:
        raise KernelUnavailable(f"not installed: {', '.join(missing)}")


def _found(command: str) -> bool:
    # Debian keeps these where only root's PATH looks.
    return shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is not None
