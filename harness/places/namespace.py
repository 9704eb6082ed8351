"""A throwaway user and network namespace: real kernel, no root, nothing left behind.

The harness itself stays outside and keeps its file permissions.  An agent process inside creates
sockets and passes them out; commands enter with nsenter.  The namespace lives as long as the agent,
which ends with this process, however that ends.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

from harness.places import commands

AGENT = Path(__file__).with_name("netns_agent.py")
START_TIMEOUT_SECONDS = 60
WAYS_OUT = (
    "allow unprivileged user namespaces (sysctl user.max_user_namespaces=10000, kernel.unprivileged_userns_clone=1,"
    " kernel.apparmor_restrict_unprivileged_userns=0; in a container --privileged or another seccomp profile)"
)


_LIMIT_REACHED = "unshare failed: No space left on device"
"""unshare's message for ENOSPC, which here means a limit on namespaces, not a full disk (namespaces(7))."""


def in_words(said: str) -> str:
    """unshare's message, with the one for a reached limit on namespaces reworded to say so."""
    return said.replace(_LIMIT_REACHED, "the limit on namespaces is reached")


class NamespaceError(RuntimeError):
    """Namespaces are not available; the message names a solution."""


class Namespace:
    """Context manager for one namespace; raises NamespaceError if namespaces are not available.

    A namespace created `beside` another shares its user namespace, so that links can connect the two.  With `user`
    False, for root only, it is only a network namespace, in which root keeps all its privileges.
    """

    def __init__(self, beside: Namespace | None = None, user: bool = True) -> None:
        self._beside = beside
        self._user: bool = beside._user if beside else user

    def __enter__(self) -> Namespace:
        self._channel, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The user namespace is mapped first: legacy iptables needs a network namespace whose root is a known user.
        unshare = [*(["unshare", "-Ur"] if self._user else []), "unshare", "-n"]
        if self._beside and self._user:
            enter = ["nsenter", "-t", str(self._beside.pid), "-U", "--preserve-credentials", "--"]
            unshare = [*enter, "unshare", "-n"]
        command = [*unshare, sys.executable, "-I", "-S", str(AGENT), str(inside.fileno())]
        try:
            # A new session: Ctrl-C must reach only the harness, which then ends the agent.
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
            self._agent.kill()  # it may hang
            error = self._agent.stderr.read().decode(errors="replace").strip() if self._agent.stderr else ""
            self.__exit__()
            raise NamespaceError(
                f"cannot make a user and network namespace: {in_words(error) or 'no answer'}; {WAYS_OUT},"
                " or use --kernel vm or --kernel memory"
            )
        return self

    def _receive_ready(self) -> bytes:
        try:
            return self._channel.recv(16)
        except OSError:
            return b""

    def __exit__(self, *_exception: object) -> None:
        self._channel.close()
        self._agent.kill()
        self._agent.wait()
        if self._agent.stderr:
            self._agent.stderr.close()

    @property
    def pid(self) -> int:
        """The process that keeps the namespace alive, for `nsenter -t` and `ip link ... netns`."""
        return self._agent.pid

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket in the namespace; OSError if the kernel has no such sockets."""
        self._channel.send(f"{family} {kind} {protocol}".encode())
        answer, descriptors, _, _ = socket.recv_fds(self._channel, 16, 1)
        if not descriptors:
            code = int(answer or errno.EPIPE)
            raise OSError(code, os.strerror(code))
        return socket.socket(fileno=descriptors[0])

    def run(self, command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command inside and capture its output."""
        return commands.run(command, stdin, self._enter())

    def start(self, command: list[str], descriptor: int) -> subprocess.Popen[bytes]:
        """Start a command inside that inherits one file descriptor and must end when that closes."""
        return start(self.inside(command), descriptor)

    def inside(self, command: list[str]) -> list[str]:
        """The command line that runs a command inside; the process execs the command."""
        return [*self._enter(), *command]

    def _enter(self) -> list[str]:
        rights = ["-U", "--preserve-credentials"] if self._user else []
        return ["nsenter", "-t", str(self.pid), "-n", *rights, "--"]


def start(command: list[str], descriptor: int) -> subprocess.Popen[bytes]:
    """Start a command in a new session, so that Ctrl-C reaches only this process."""
    return subprocess.Popen(command, pass_fds=[descriptor], stdin=subprocess.DEVNULL, start_new_session=True)
