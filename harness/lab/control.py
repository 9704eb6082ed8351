"""The lab's control socket: one JSON object per line, `{"op": NAME, ...}` -> `{"result": ...}` or `{"error": TEXT}`.

The supervisor is the server; `harness lab`, chaos and tests are clients.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from harness.failure import Failure
from harness.judge.readback.check_result import CheckResult
from harness.lab.answers import EngineUsage, FlowEndpoint, FlowQuery, LabFacts, Moments, Observation, Status
from harness.places import commands, vm

SOCKET, FACTS = "control.sock", "lab.json"
TIMEOUT_SECONDS = 60
"""Time limit of an answer; an emulated machine may take many times as long."""
_LONGEST_LINE = 16 << 20

Dispatch = Callable[[str, dict[str, msgspec.Raw]], Awaitable[object]]
"""Executes an operation with its arguments, which are still JSON."""
Given = TypeVar("Given")


class LabError(Failure, RuntimeError):
    """The lab rejected a request, or does not exist; the message says which, and what to do."""


class _Answer(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""


async def serve(path: Path, dispatch: Dispatch) -> asyncio.Server:
    """Serve on a Unix socket until closed."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await _answer(line)) + b"\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client is gone, or the lab ends
        finally:
            writer.close()

    async def _answer(line: bytes) -> dict[str, object]:
        try:
            request = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
            op = msgspec.json.decode(request.pop("op"), type=str)
            return {"result": await dispatch(op, request)}
        except (LookupError, ValueError, TypeError, OSError, RuntimeError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    return await asyncio.start_unix_server(client, path, limit=_LONGEST_LINE)


class LabClient:
    """A running lab, identified by its folder; LabError if it does not answer, or rejects a request.

    Its methods are the operations of `harness.lab.operations`.  If started by this process, `process` is its
    supervisor, and it ends when the descriptor `lifeline` is closed.
    """

    process: subprocess.Popen[bytes] | None = None
    lifeline: int | None = None

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        try:
            self.facts = msgspec.json.decode((self.folder / FACTS).read_bytes(), type=LabFacts)
        except (OSError, ValueError):
            raise LabError(f"no lab in {self.folder}; start one with `harness lab up`") from None

    def status(self) -> Status:
        """The current nodes, engines, pods and Services."""
        return self._ask(Status, "status")

    def observations(self, since: float = 0.0) -> list[Observation]:
        """When each node's kernel caught up with each change of the slices since the given time."""
        return self._ask(list[Observation], "observations", since=since)

    def open_questions(self) -> int:
        """The number of effects of changes that nodes' kernels do not show yet."""
        return self._ask(int, "open_questions")

    def forward_open(self, namespace: str, port: int) -> str:
        """A Unix socket forwarded to the port on the namespace's loopback address."""
        return self._ask(str, "forward.open", namespace=namespace, port=port)

    def flows_lookup(self, flows: Sequence[FlowQuery]) -> list[FlowEndpoint | None]:
        """The node and endpoint of each flow, None if no node knows it."""
        return self._ask(list[FlowEndpoint | None], "flows.lookup", flows=flows)

    def engine_usage(self) -> dict[str, EngineUsage]:
        """CPU time and memory of each node's running engine."""
        return self._ask(dict[str, EngineUsage], "engine.usage")

    def transactions(self) -> dict[str, Moments | None]:
        """When each transaction on each node's rules took effect; None if they are not announced."""
        return self._ask(dict[str, Moments | None], "transactions")

    def rewrites(self) -> dict[str, list[float] | None]:
        """When a whole table of each node's rules was replaced or deleted; None if that cannot be detected."""
        return self._ask(dict[str, list[float] | None], "rewrites")

    def kernels_judge(self, nodes: Sequence[str] | None = None) -> dict[str, CheckResult]:
        """Compare the kernels of the given nodes, by default of all, with the API's objects."""
        return self._ask(dict[str, CheckResult], "kernels.judge", nodes=nodes)

    def fault_note(self, what: Mapping[str, object]) -> float:
        """Write a FAULT event to the event log; returns its time."""
        return self._ask(float, "fault.note", what=what)

    def perform(self, op: str, **arguments: object) -> None:
        """Perform an operation without a result, by its name on the socket, such as `pod.signal`."""
        self._ask(type(None), op, **arguments)

    def _ask(self, answer_type: type[Given], op: str, **arguments: object) -> Given:
        request = msgspec.json.encode({"op": op, **arguments})
        line = self._exchange(request + b"\n")
        if not line:
            raise LabError(
                f"the lab in {self.folder} ended while asked for {op}; its log: {self.folder}/supervisor.log"
            )
        answer = msgspec.json.decode(line, type=_Answer)
        if answer.error:
            raise LabError(f"{op}: {answer.error}")
        return msgspec.json.decode(answer.result, type=answer_type)

    def _exchange(self, request: bytes) -> bytes:
        """Send a request and return the response line."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT_SECONDS * vm.patience())
            try:
                connect(sock, self.folder / SOCKET)
                sock.sendall(request)
                with sock.makefile("rb") as answers:
                    return answers.readline()
            except OSError as error:
                raise LabError(f"the lab in {self.folder} does not answer: {error}") from None

    def inside(self, namespace: str | None, command: list[str]) -> list[str]:
        """The command line that runs a command in one of the lab's namespaces from outside; None is the router."""
        rights = ["-U", "--preserve-credentials"] if self.facts.user_namespace else []
        enter = ["nsenter", "-t", str(self.facts.pid), *rights, "-m", "-n", "-p", "--"]
        return [*enter, *(["ip", "netns", "exec", namespace] if namespace else []), *command]

    def run(self, namespace: str | None, command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command in a namespace and capture its output."""
        return commands.run(command, stdin, self.inside(namespace, []))


def connect(sock: socket.socket, path: Path) -> None:
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
