"""A throwaway user and network namespace: real kernel, no root, nothing left behind.

The harness itself stays outside with its own rights to files.  An agent process inside makes
sockets and passes them out; commands enter with nsenter.  The namespace lives exactly as long as
that agent, which ends when this process does, however it ends.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

AGENT = Path(__file__).with_name("netns_agent.py")
START_TIMEOUT_SECONDS = 20


class NamespaceError(RuntimeError):
    """No namespace is to be had here; the message names the ways out."""


class Namespace:
    """Context manager around one namespace; raises NamespaceError where they are refused.

    One made `beside` another shares its user namespace, so that links may join the two.  `user` False,
    for root only: a network namespace alone, where root keeps all its rights.
    """

    def __init__(self, beside: Namespace | None = None, user: bool = True) -> None:
        self._beside = beside
        self._user = beside._user if beside else user

    def __enter__(self) -> Namespace:
        self._channel, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        unshare = ["unshare", "-Urn" if self._user else "-n"]
        if self._beside and self._user:
            enter = ["nsenter", "-t", str(self._beside.pid), "-U", "--preserve-credentials", "--"]
            unshare = [*enter, "unshare", "-n"]
        command = [*unshare, sys.executable, "-I", "-S", str(AGENT), str(inside.fileno())]
        try:
            # A session of its own: Ctrl-C must reach the harness, which then ends the agent.
            self._agent = subprocess.Popen(
                command,
                pass_fds=[inside.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise NamespaceError("unshare is not installed (package util-linux)") from None
        inside.close()
        self._channel.settimeout(START_TIMEOUT_SECONDS)
        if self._receive_ready() != b"ready\n":
            error = self._agent.stderr.read().decode(errors="replace").strip()
            self.__exit__()
            raise NamespaceError(
                f"cannot make a user and network namespace: {error or 'no answer'}; allow unprivileged user"
                " namespaces (sysctl kernel.unprivileged_userns_clone=1 or"
                " kernel.apparmor_restrict_unprivileged_userns=0), run as root, or use --kernel memory"
            )
        return self

    def _receive_ready(self) -> bytes:
        try:
            return self._channel.recv(16)
        except OSError:
            return b""

    def __exit__(self, *_exception) -> None:
        self._channel.close()
        self._agent.kill()
        self._agent.wait()
        self._agent.stderr.close()

    @property
    def pid(self) -> int:
        """The process that keeps the namespace alive, for `nsenter -t` and `ip link ... netns`."""
        return self._agent.pid

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in the namespace."""
        self._channel.send(f"{family} {kind} {protocol}".encode())
        _, descriptors, _, _ = socket.recv_fds(self._channel, 16, 1)
        return socket.socket(fileno=descriptors[0])

    def run(self, command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command inside; its output is captured."""
        return subprocess.run([*self._enter(), *command], input=stdin, capture_output=True, check=False)

    def start(self, command: list[str], descriptor: int) -> subprocess.Popen[bytes]:
        """Start a command inside that inherits one file descriptor and must end when that closes."""
        return start([*self._enter(), *command], descriptor)

    def _enter(self) -> list[str]:
        rights = ["-U", "--preserve-credentials"] if self._user else []
        return ["nsenter", "-t", str(self.pid), "-n", *rights, "--"]


def start(command: list[str], descriptor: int) -> subprocess.Popen[bytes]:
    """Start a command here, in a session of its own so that Ctrl-C is left to this process."""
    return subprocess.Popen(command, pass_fds=[descriptor], stdin=subprocess.DEVNULL, start_new_session=True)
