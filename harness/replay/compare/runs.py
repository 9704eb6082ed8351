"""Replays one mode in a separate process: memory is measured per mode, and each may need another kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from harness.replay.compare.result import ModeRun
from harness.replay.result import ReplayResult
from harness.temporary import temporary_folder

_END_SECONDS = 20


def run_mode(source: str, mode: str, options: Sequence[str]) -> ModeRun:
    """Replay `source` in `mode`; `options` are those of `harness replay`. The replay ends with this process."""
    with temporary_folder("compare") as folder:
        path = folder / "result.json"
        command = [sys.executable, "-m", "harness", "replay", source, "--mode", mode, "--json", str(path), *options]
        code, complaint = _finish(command)
        result = msgspec.json.decode(path.read_bytes(), type=ReplayResult) if path.exists() else None
    return _judged(mode, code, result, complaint, "memory" in options)


def _judged(mode: str, code: int, result: ReplayResult | None, complaint: str, memory: bool) -> ModeRun:
    """A replay that fell back to memory counts as having no figures."""
    reason = complaint.strip().removeprefix("error: ") if code else ""
    if result and result.kernel["kind"] == "memory" and not memory:
        return ModeRun(mode, 1, result.kernel.get("reason", "no kernel is available"), None)
    if result is None:
        return ModeRun(mode, code or 1, reason.splitlines()[-1] if reason else f"exit code {code}", None)
    return ModeRun(mode, code, reason, result)


def _finish(command: list[str]) -> tuple[int, str]:
    """Exit code and standard error; an interruption is forwarded to the process, whose end is awaited."""
    process = None
    try:
        with _held_back():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=os.environ | {"HARNESS_PROGRESS": "none"},
            )
        _, complaint = process.communicate()
    except BaseException:
        if process is not None:
            _end(process)
        raise
    return process.returncode, complaint.decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Terminate the process, giving it time to clean up; kill its process group after that."""
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def _held_back() -> Iterator[None]:
    """Defer signals: one that interrupts the start of a process would leak it."""
    held: list[tuple[Any, int, Any]] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number, handler in handlers.items():
        signal.signal(number, lambda *got, handler=handler: held.append((handler, *got)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for handle, caught, frame in held:
        handle(caught, frame)
