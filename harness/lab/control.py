"""The lab's control socket: one JSON object per line, `{"op": NAME, ...}` -> `{"result": ...}` or `{"error": TEXT}`.

The server is the supervisor's; the client is everyone else's (`harness lab`, chaos, tests).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from harness.failure import Failure
from harness.places import commands

SOCKET, FACTS = "control.sock", "lab.json"
TIMEOUT_SECONDS = 60
_LONGEST_LINE = 16 << 20


class LabError(Failure, RuntimeError):
    """The lab rejected a request, or does not exist; the message says which, and what to do."""


async def serve(path: Path, dispatch: Callable[[str, dict[str, Any]], Awaitable[Any]]) -> asyncio.Server:
    """Serve on a Unix socket until closed; `dispatch` executes an operation with its arguments."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await _answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client is gone, or the lab ends
        finally:
            writer.close()

    async def _answer(line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            return {"result": await dispatch(request.pop("op"), request)}
        except (LookupError, ValueError, TypeError, OSError, RuntimeError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    return await asyncio.start_unix_server(client, path, limit=_LONGEST_LINE)


class LabClient:
    """A running lab, identified by its folder; LabError if it does not answer.

    If started by this process, `process` is its supervisor, and it ends when the descriptor `lifeline` is closed.
    """

    process: subprocess.Popen[bytes] | None = None
    lifeline: int | None = None

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        try:
            self.facts = json.loads((self.folder / FACTS).read_text())
        except (OSError, ValueError):
            raise LabError(f"no lab in {self.folder}; start one with `harness lab up`") from None

    def call(self, op: str, **arguments: Any) -> Any:
        """Execute one operation and return its result; LabError with the lab's message if it is rejected."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT_SECONDS)
            try:
                _connect(sock, self.folder / SOCKET)
                sock.sendall(json.dumps({"op": op, **arguments}).encode() + b"\n")
                with sock.makefile("rb") as answers:
                    line = answers.readline()
            except OSError as error:
                raise LabError(f"the lab in {self.folder} does not answer: {error}") from None
        if not line:
            raise LabError(
                f"the lab in {self.folder} ended while asked for {op}; its log: {self.folder}/supervisor.log"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise LabError(f"{op}: {answer['error']}")
        return answer["result"]

    def inside(self, namespace: str | None, command: list[str]) -> list[str]:
        """The command line that runs a command in one of the lab's namespaces from outside; None is the router."""
        rights = ["-U", "--preserve-credentials"] if self.facts["user_namespace"] else []
        enter = ["nsenter", "-t", str(self.facts["pid"]), *rights, "-m", "-n", "-p", "--"]
        return [*enter, *(["ip", "netns", "exec", namespace] if namespace else []), *command]

    def run(self, namespace: str | None, command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command in a namespace and capture its output."""
        return commands.run(command, stdin, self.inside(namespace, []))


def _connect(sock: socket.socket, path: Path) -> None:
    """Connect, using a short alias if the path is too long for a socket address."""
    try:
        sock.connect(str(path))
    except OSError as error:
        if "too long" not in str(error):
            raise
        folder = os.open(path.parent, os.O_PATH)
        try:
            sock.connect(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
