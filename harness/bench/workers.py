"""A process that measures the engine (`inside`): one call per step, each with a time limit."""

from __future__ import annotations

import select
import subprocess
import tempfile
from pathlib import Path

import msgspec

from harness.bench.baseline import Python
from harness.failure import Failure

PROGRAM = Path(__file__).with_name("inside.py")
STEP_SECONDS = 1800.0
END_SECONDS = 20.0


class WorkerFailed(Failure, RuntimeError):
    """The process has ended, or does not answer; the message has its last output."""


class NotAvailable(Exception):
    """The kernel does not support the mode."""


class StepAnswer(msgspec.Struct, frozen=True):
    """The answer of a step: seconds of a sync, bytes, and the size of what is in the kernel, None if unknown."""

    not_available: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    rules: int | None = None
    elements: int | None = None


class Worker:
    """Context manager."""

    def __init__(self, python: Python, recording: Path, mode: str) -> None:
        self._command = [*python.words, "-P", str(PROGRAM), str(recording), mode]
        self._environment = python.environment()

    def __enter__(self) -> Worker:
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=self._environment, bufsize=0,
            start_new_session=True,
        )  # fmt: skip
        return self

    def __exit__(self, kind: object, *_exception: object) -> None:
        assert self._process.stdin and self._process.stdout, "they are pipes"
        if kind:  # interrupted, perhaps in the middle of a long step
            self._process.kill()
        self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def step(self, name: str) -> StepAnswer | None:
        """Execute one step, None if there is nothing left to do; NotAvailable, WorkerFailed."""
        assert self._process.stdin and self._process.stdout, "they are pipes"
        try:
            self._process.stdin.write(f"{name}\n".encode())
            line = self._line()
        except BrokenPipeError:
            line = b""
        if not line:
            raise WorkerFailed(f"{name}: {self._last_words()}")
        answer = msgspec.json.decode(line, type=StepAnswer | None)
        if answer and answer.not_available:
            raise NotAvailable(answer.not_available)
        return answer

    def _line(self) -> bytes:
        assert self._process.stdout, "it is a pipe"
        if not select.select([self._process.stdout], [], [], STEP_SECONDS)[0]:
            raise WorkerFailed(f"no answer within {STEP_SECONDS:g} s")
        return self._process.stdout.readline()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read()[-4000:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "the measuring process ended without a message"
