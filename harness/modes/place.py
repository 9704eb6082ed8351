"""Where rules live: a network namespace to make sockets and run commands in, and what a mode opens there."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engine.kernel.base import Kernel
from harness.behaviour import Behaviour


@dataclass(frozen=True)
class Place:
    """All act in one network namespace: `make_socket(family, type, protocol)`, `run(command, stdin)`, and
    `start(command, descriptor)` for what stays, None where nothing may.
    """

    kind: str
    make_socket: Callable[[int, int, int], socket.socket]
    run: Callable[[list[str], bytes], subprocess.CompletedProcess[bytes]]
    start: Callable[[list[str], int], subprocess.Popen[bytes]] | None = None


class View(Protocol):
    """What a kernel of one mode holds now, in the oracle's words."""

    def behaviour(self, family: int) -> Behaviour | None:
        """None when nothing of the family was programmed; ValueError when its parts contradict each other."""


@dataclass(frozen=True)
class Opened:
    """A kernel to program, the view to judge it by, and its tools' names and versions to print."""

    kernel: Kernel
    view: View
    tools: dict[str, str]
