"""Opens what a replay programs: a throwaway namespace or kernel, memory, or (only when spelled out) the host."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from engine.kernel.base import Conntrack, Kernel
from engine.kernel.conntrack import NETLINK_NETFILTER, ConntrackTable
from harness import uml
from harness.modes import module_of, user_namespace
from harness.modes.place import Opened, Place, View
from harness.namespace import Namespace, NamespaceError, start


class KernelUnavailable(RuntimeError):
    """The kernel asked for is not to be had; the message names the way out."""


class Target(NamedTuple):
    """A kernel with its view, what to print of it, the place it is in and its connections (None in memory)."""

    kernel: Kernel
    view: View
    facts: dict[str, str]
    place: Place | None
    conntrack: Conntrack | None = None


def needs_uml(kind: str, mode: str) -> bool:
    """Whether the whole command has to run in user-mode Linux: asked for, or all that offers the mode here.

    KernelUnavailable when it is asked for and cannot be there.
    """
    if uml.inside() or kind not in ("auto", "uml"):
        return False
    module = module_of(mode)
    if kind == "uml":
        if hasattr(module, "NOT_IN_UML"):
            raise KernelUnavailable(f"{module.NOT_IN_UML}: mode {mode} needs --kernel netns")
        return True
    if not hasattr(module, "missing") or not uml.installed():
        return False
    try:
        with _namespace(module):
            return False
    except KernelUnavailable:
        return True


@contextmanager
def open_kernel(kind: str, mode: str, variant: str | None = None) -> Iterator[Target]:
    """`kind` is auto, netns, uml, memory or host; uml only where `needs_uml`. Raises KernelUnavailable.

    `variant`: for mode iptables alone, whose tools to use; None where the place is to tell.
    """
    module = module_of(mode)
    if kind == "memory":
        yield _in_memory(module.memory(), {})
    elif kind == "host":
        yield from _on_host(module, variant)
    elif kind == "uml":
        yield from _inside_uml(module, variant)
    else:
        yield from _in_namespace(module, variant, fall_back=kind == "auto")


def _in_memory(opened: Opened, extra: dict[str, str]) -> Target:
    return Target(opened.kernel, opened.view, {"kind": "memory", **extra}, None)


def _in_namespace(module, variant: str | None, fall_back: bool) -> Iterator[Target]:
    with ExitStack() as stack:
        try:
            place = stack.enter_context(_namespace(module))
        except KernelUnavailable as error:
            if not fall_back:
                raise
            yield _in_memory(module.memory(), {"reason": str(error)})
            return
        yield from _real(module, place, variant)


@contextmanager
def _namespace(module) -> Iterator[Place]:
    """A throwaway namespace whose kernel can do the mode; KernelUnavailable where there is none."""
    _require(module)
    try:
        namespace = Namespace(user=user_namespace(module)).__enter__()
    except NamespaceError as error:
        raise KernelUnavailable(str(error)) from None
    try:
        place = Place("netns", namespace.socket, namespace.run, namespace.start)
        _able(module, place)
        yield place
    finally:
        namespace.__exit__()


def _able(module, place: Place) -> None:
    why = module.missing(place) if hasattr(module, "missing") else None
    if why:
        raise KernelUnavailable(f"{why}; Debian's user-mode-linux has it: --kernel uml")


def _inside_uml(module, variant: str | None) -> Iterator[Target]:
    """The kernel that was booted for this command: all of it is throwaway."""
    if not uml.inside():
        raise KernelUnavailable("--kernel uml boots a kernel for a whole command; this one cannot run in it")
    _require(module)
    yield from _real(module, Place("uml", socket.socket, _run, start), variant)


def _run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def _on_host(module, variant: str | None) -> Iterator[Target]:
    if os.geteuid() != 0:
        raise KernelUnavailable("--kernel host programs this machine's own rules and needs root")
    _require(module)
    place = Place("host", socket.socket, _run, start)
    _able(module, place)
    found = module.leftovers(place)
    if found:
        raise KernelUnavailable(f"this host has {found} already: a proxy runs here, or ran; remove it first")
    try:
        yield from _real(module, place, variant)
    finally:
        module.clean(place)


def _real(module, place: Place, variant: str | None) -> Iterator[Target]:
    with module.real(place, variant) if variant else module.real(place) as opened:
        facts = {"kind": place.kind, "release": platform.release(), **opened.tools}
        if not getattr(module, "TRANSLATES", True):
            yield Target(opened.kernel, opened.view, facts, place)
            return
        table = ConntrackTable(place.make_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
        try:
            yield Target(opened.kernel, opened.view, facts, place, table)
        finally:
            table.close()


def _require(module) -> None:
    missing = [f"{command} (package {package})" for command, package in module.COMMANDS.items() if not _found(command)]
    if missing:
        raise KernelUnavailable(f"not installed: {', '.join(missing)}")


def _found(command: str) -> bool:
    # Debian keeps these where only root's PATH looks.
    return shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is not None
