"""A network namespace for rules, in which sockets can be created and commands run."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.places.world import World


@dataclass(frozen=True)
class Place:
    """Functions that act in one network namespace: `make_socket(family, type, protocol)`, `run(command, stdin)`, and
    `start(command, descriptor)` for background processes, None if these are not allowed.  `world` is the network
    around it, if packets can be sent from outside.
    """

    kind: str
    make_socket: Callable[[int, int, int], socket.socket]
    run: Callable[[list[str], bytes], subprocess.CompletedProcess[bytes]]
    start: Callable[[list[str], int], subprocess.Popen[bytes]] | None = None
    world: World | None = None

    @property
    def own_addresses(self) -> tuple[bytes, ...]:
        """Its addresses in addition to those of the Node, of both families."""
        return tuple(map(self.world.own_address, (4, 6))) if self.world else ()


def output_of(place: Place, *command: str) -> str:
    """The output of a command; ValueError if it fails."""
    result = place.run(list(command), b"")
    if result.returncode:
        raise ValueError(f"{' '.join(command)}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout.decode()


def tool_version(place: Place, command: list[str]) -> str:
    """The first version number printed by `command`, or `unknown`."""
    found = re.search(r"\d+(\.\d+)+", place.run(command, b"").stdout.decode(errors="replace"))
    return found[0] if found else "unknown"


def sysctls(place: Place, names: Iterable[str]) -> dict[str, str]:
    """Values of sysctls in the network namespace of `place`; those that the kernel lacks are left out."""
    found = {}
    for name in names:
        result = place.run(["cat", f"/proc/sys/{name.replace('.', '/')}"], b"")
        if result.returncode == 0:
            found[name] = result.stdout.decode().strip()
    return found
