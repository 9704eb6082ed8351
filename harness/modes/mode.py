"""A proxy mode as a value: how to open, inspect and clean up its kernel state, and how it differs from other modes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from harness.judge.packet import Tracer
from harness.modes.opened import ModeView, Opened
from harness.places.place import Place

Open = Callable[[Place], AbstractContextManager[Opened]]


class Notifications(Enum):
    """The kernel's notifications of changes to a mode's rules."""

    NONE = "none"
    TRANSACTIONS = "transactions"
    ELEMENTS = "elements"


class Reporting(Protocol):
    """A proxy in a separate process, with its reported state."""

    def everything(self, family: int) -> object:
        """Everything it serves in a family, None if nothing."""


def _nothing(place: Place) -> None:
    return None


def _no_notices(place: Place) -> Notifications:
    return Notifications.NONE


@dataclass(frozen=True)
class Mode:
    """One proxy mode of this build.

    `commands` are the required programs, with the packages that contain them.  `memory` opens an in-memory kernel,
    `real` that of a place, `variants` the same with the tools of a named variant.  `leftovers` lists a proxy's existing
    objects in a place, `clean` removes them, `missing` is why a place's kernel does not support the mode;
    `everywhere`: every kernel does.  `tracer` follows packets through the programs' text, for a family and the node's
    addresses.  `forget_clients` clears session affinity in the kernel, `notices` describes the notifications of a
    place's kernel.

    `user_namespaces`: works in one.  `translates`: by kernel rules, so that conntrack contains its flows.
    `daemon` is the module of a separate node daemon for a mode that proxy-engine lacks, and `beside` inspects that
    process, since opening would start a second one.

    Of a lab: `families` are those whose kernel state is verified.  `listings` are commands that print every endpoint's
    address, whatever proxy wrote the rules.  For faults, `flush` and `damage` are commands for a shell, "" if there are
    no rules: one deletes all rules and checks at once that they are gone, as a proxy may restore them quickly; the
    other deletes the node ports, but nothing that a proxy monitors, so that its next change of one is rejected.
    """

    name: str
    commands: Mapping[str, str]
    memory: Callable[[], Opened]
    real: Open
    tracer: Callable[[int, frozenset[bytes]], Tracer]
    leftovers: Callable[[Place], str | None]
    clean: Callable[[Place], None]
    variants: Mapping[str, Open] = field(default_factory=dict)
    missing: Callable[[Place], str | None] = _nothing
    everywhere: bool = True
    forget_clients: Callable[[Place], None] = _nothing
    notices: Callable[[Place], Notifications] = _no_notices
    user_namespaces: bool = True
    translates: bool = True
    daemon: str = ""
    beside: Callable[[Reporting, Place], ModeView] | None = None
    families: tuple[int, ...] = (4,)
    listings: tuple[tuple[str, ...], ...] = ()
    flush: str = ""
    damage: str = ""

    @property
    def user_namespace(self) -> bool:
        """Whether the mode's throwaway namespace gets a user namespace: always, except as root if it does not work."""
        return self.user_namespaces or os.geteuid() != 0
