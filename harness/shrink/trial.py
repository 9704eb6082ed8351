"""Tests whether a candidate still fails, by running the user's command on it; results are stored on disk.

A journal beside the result contains one line per candidate, `{"sha256": ..., "holds": ...}`.  The search is
deterministic, so an interrupted one is resumed by running it again: known candidates are not run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from harness.exit_codes import EXIT_INPUT
from harness.failure import Failure
from harness.log import open_source
from harness.log.events import Event, Header
from harness.log.lines import event_line, header_line
from harness.log.redact import redact
from harness.output import OutputError
from harness.temporary import temporary_folder

PLACEHOLDER = "{source}"


class TrialError(Failure):
    """The command cannot be run."""

    exit_code = EXIT_INPUT


class NotFailing(Failure):
    """The command does not fail as expected; the message states its result."""


@dataclass(frozen=True)
class Failing:
    """A command, with `{source}` for the recording's file, and how it fails.

    It ends with `exit_code`, by default that with the whole recording, and prints `text`.  A run that takes longer than
    `seconds` is killed and does not count.
    """

    command: str
    exit_code: int | None = None
    text: str = ""
    seconds: float = 300.0


class Trial:
    """A context manager that runs the command in its own process group; a candidate holds if it fails in that way."""

    def __init__(
        self, failing: Failing, header: Header, journal: Path, report: Callable[[int], None] = lambda count: None
    ) -> None:
        if PLACEHOLDER not in failing.command:
            raise TrialError(f"--while: {PLACEHOLDER} is needed where the recording's file goes in {failing.command!r}")
        self._words, self._header, self._path = shlex.split(failing.command), header, journal
        self._exit_code, self._text, self._seconds = failing.exit_code, failing.text, failing.seconds
        self._report = report
        self._known: dict[str, bool] = {}
        self.runs = 0

    def __enter__(self) -> Trial:
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(temporary_folder("shrink"))
        self._journal = self._opened()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._journal.close()
        self._stack.close()

    def begin(self, events: Sequence[Event]) -> int:
        """Run the whole recording to get the exit code required of candidates.  NotFailing if it does not fail."""
        code, printed = self._run(self._text_of(events))
        if code is None:
            raise NotFailing(f"the command takes over {self._seconds:g} s with all of SOURCE")
        if self._exit_code is None:
            if code == 0:
                raise NotFailing("the command succeeds (exit code 0) with all of SOURCE: nothing to shrink")
            self._exit_code = code
        if code != self._exit_code:
            raise NotFailing(f"the command ends with {code}, not {self._exit_code}, with all of SOURCE")
        if self._text not in printed:
            raise NotFailing(f"the command does not print {self._text!r} with all of SOURCE")
        return self._exit_code

    def holds(self, events: Sequence[Event]) -> bool:
        """Whether it still fails in the same way."""
        content = self._text_of(events)
        digest = hashlib.sha256(content).hexdigest()
        known = self._known.get(digest)
        if known is None:
            code, printed = self._run(content)
            known = self._known[digest] = code == self._exit_code and self._text in printed
            self._note(self._journal, [json.dumps({"sha256": digest, "holds": known})])
        return known

    def redacted(self, events: Sequence[Event]) -> tuple[Header, list[Event]]:
        """The same, redacted with a key that is not kept.  NotFailing if that hides the failure."""
        plain, public = (self._folder / name for name in ("plain.jsonl", "public.jsonl"))
        plain.write_bytes(self._text_of(events))
        redact(str(plain), public, secrets.token_bytes(32))
        code, printed = self._run(public.read_bytes())
        if code != self._exit_code or self._text not in printed:
            raise NotFailing(f"redacted, the command ends with {code}: run it again without --redact")
        with open_source(str(public)) as recording:
            return recording.header, list(recording)

    def _opened(self) -> BinaryIO:
        """Opens the journal and reads known results; one of another command, or truncated by a crash, is restarted."""
        asked = {"command": self._words, "exit_code": self._exit_code, "text": self._text}
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        kept = []
        for line in lines[1:] if lines[:1] == [json.dumps(asked)] else ():
            try:
                row = json.loads(line)
                self._known[row["sha256"]] = bool(row["holds"])
            except (ValueError, KeyError, TypeError):
                break
            kept.append(line)
        journal = self._path.open("wb", buffering=0)
        self._note(journal, [json.dumps(asked), *kept])
        return journal

    def _note(self, journal: BinaryIO, lines: list[str]) -> None:
        """Write a line; OutputError, without a journal, if that fails."""
        try:
            journal.write("".join(f"{line}\n" for line in lines).encode())
        except OSError as error:
            self._path.unlink(missing_ok=True)
            raise OutputError(str(self._path), error) from None

    def _text_of(self, events: Sequence[Event]) -> bytes:
        return b"".join([header_line(self._header), *map(event_line, events)])

    def _run(self, content: bytes) -> tuple[int | None, str]:
        """The exit code, None after a timeout, and the output."""
        self.runs += 1
        self._report(self.runs)
        path = self._folder / "candidate.jsonl"
        path.write_bytes(content)
        words = [word.replace(PLACEHOLDER, str(path)) for word in self._words]
        with tempfile.TemporaryFile() as printed:
            try:
                process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True
                )
            except OSError as error:
                raise TrialError(f"--while: {words[0]}: {error.strerror}") from None
            try:
                code: int | None = process.wait(self._seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                with suppress(ProcessLookupError):  # children may be left, even if it has ended
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            printed.seek(0)
            return code, printed.read().decode(errors="replace")
