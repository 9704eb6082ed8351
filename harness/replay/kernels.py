"""Opens the kernel that a replay programs: a throwaway namespace or machine, memory, or (only explicitly) the host."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from engine.kernel.conntrack import ConntrackTable
from engine.kernel.interface import Conntrack, KernelOfMode
from engine.kernel.netlink import NETFILTER
from harness.failure import Failure
from harness.modes import mode_of
from harness.modes.mode import Mode
from harness.modes.opened import ModeView, Opened
from harness.places import vm
from harness.places.commands import run
from harness.places.namespace import Namespace, NamespaceError, start
from harness.places.place import Place
from harness.places.world import World


class KernelUnavailable(Failure, RuntimeError):
    """The requested kernel is not available; the message names a solution."""


class ReplayTarget(NamedTuple):
    """A kernel with its view, facts to print, its place and its connections (None in memory)."""

    kernel: KernelOfMode
    view: ModeView
    facts: dict[str, str]
    place: Place | None
    conntrack: Conntrack | None = None


def needs_vm(kind: str, mode: str) -> bool:
    """Whether the whole command has to run in a virtual machine: requested, or the only way to get the mode."""
    if vm.inside() or kind.partition(":")[0] not in ("auto", "vm"):
        return False
    if kind != "auto":
        return True
    asked = mode_of(mode)
    if asked.everywhere or vm.missing():
        return False
    try:
        with _namespace(asked):
            return False
    except KernelUnavailable:
        return True


@contextmanager
def open_kernel(kind: str, mode: str, variant: str | None = None, packets: bool = False) -> Iterator[ReplayTarget]:
    """Open a kernel; `kind` is auto, netns, memory or host, as virtual machines run whole commands.

    `variant`: the variant of tools, for mode iptables only; None to detect it.  `packets`: whether to connect a
    throwaway namespace to others for pods and external clients.  Raises KernelUnavailable.
    """
    asked = mode_of(mode)
    if kind == "memory":
        yield _in_memory(asked.memory(), {})
    elif kind == "host":
        yield from _on_host(asked, variant)
    else:
        yield from _in_namespace(asked, variant, packets, fall_back=kind == "auto")


def _in_memory(opened: Opened, extra: dict[str, str]) -> ReplayTarget:
    return ReplayTarget(opened.kernel, opened.view, {"kind": "memory", **extra}, None)


def _in_namespace(mode: Mode, variant: str | None, packets: bool, fall_back: bool) -> Iterator[ReplayTarget]:
    with ExitStack() as stack:
        try:
            place = stack.enter_context(_namespace(mode, packets))
        except KernelUnavailable as error:
            if not fall_back:
                raise
            yield _in_memory(mode.memory(), {"reason": str(error)})
            return
        yield from _real(mode, place, variant)


@contextmanager
def _namespace(mode: Mode, packets: bool = False) -> Iterator[Place]:
    """A throwaway namespace whose kernel supports the mode; KernelUnavailable if not possible."""
    _require(mode)
    with ExitStack() as stack:
        try:
            place = _surrounded(mode, stack) if packets else None
            if place is None:
                namespace = stack.enter_context(Namespace(user=mode.user_namespace))
                place = Place("netns", namespace.socket, namespace.run, namespace.start)
        except NamespaceError as error:
            raise KernelUnavailable(str(error)) from None
        _able(mode, place)
        yield place


def _surrounded(mode: Mode, stack: ExitStack) -> Place | None:
    """A node connected to pods and external clients; None without links, or if the mode uses sockets, not rules."""
    if not mode.translates:
        return None
    try:
        world = stack.enter_context(World(user=mode.user_namespace))
    except OSError:
        return None
    return Place("netns", world.node.socket, world.node.run, world.node.start, world)


def _able(mode: Mode, place: Place) -> None:
    if why := mode.missing(place):
        raise KernelUnavailable(f"{why}; use --kernel vm for a kernel that has it{_how()}, or --kernel memory for none")


def _how() -> str:
    why = vm.missing()
    return f" ({why})" if why else ""


def _on_host(mode: Mode, variant: str | None) -> Iterator[ReplayTarget]:
    if os.geteuid() != 0:
        raise KernelUnavailable("--kernel host programs this machine's own rules and needs root")
    _require(mode)
    place = Place("host", socket.socket, run, start)
    _able(mode, place)
    found = mode.leftovers(place)
    if found:
        raise KernelUnavailable(f"this host already has {found}: a proxy is or was running here; remove it first")
    try:
        yield from _real(mode, place, variant)
    finally:
        mode.clean(place)


def _real(mode: Mode, place: Place, variant: str | None) -> Iterator[ReplayTarget]:
    with (mode.variants[variant] if variant else mode.real)(place) as opened:
        _probe(opened)
        facts = {"kind": place.kind, **_machine(), "release": platform.release(), **opened.tools}
        if not mode.translates:
            yield ReplayTarget(opened.kernel, opened.view, facts, place)
            return
        table = ConntrackTable(place.make_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER))
        try:
            yield ReplayTarget(opened.kernel, opened.view, facts, place, table)
        finally:
            table.close()


def _probe(opened: Opened) -> None:
    """Raise KernelUnavailable if the kernel or a tool lacks something that the engine checks at its start."""
    families = (4, 6) if os.path.exists("/proc/net/if_inet6") else (4,)
    if why := opened.lacking(families):
        raise KernelUnavailable(f"{why}; use another kernel with --kernel vm{_how()}")


def _machine() -> dict[str, str]:
    return {"machine": vm.accelerator()} if vm.inside() else {}


def _require(mode: Mode) -> None:
    needed = mode.commands.items()
    missing = [f"{command} (package {package})" for command, package in needed if not shutil.which(command)]
    if missing:
        raise KernelUnavailable(f"not installed: {', '.join(missing)}; install it, or use --kernel memory")
