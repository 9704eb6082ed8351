"""Progress on standard error, for anything that takes longer than a few seconds.

A live line in a terminal, otherwise one line every ten seconds, and at once when there is a first figure.  Reading a
source is measured in bytes, everything else by the counts that the command reports; the estimate is for the current
step.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from harness.cli.verbosity import asked
from harness.log import reader

LIVE, LINES = (2.0, 0.5), (2.0, 10.0)
"""Seconds before the first line and between lines, in a terminal and elsewhere."""
VARIABLE = "HARNESS_PROGRESS"
"""Environment variable: `none` turns progress off, for programs that parse standard error."""
_CLEAR = "\r\x1b[K"


class Progress:
    """A context manager; `step` names the current step."""

    def __init__(self, what: str, total: int | None = None, detail: Callable[[], str] | None = None) -> None:
        """`detail` returns text to append to the line."""
        self.detail = detail
        self._live = sys.stderr.isatty()
        self._shown = os.environ.get(VARIABLE) != "none" and not asked().quiet
        self._each_step = asked().verbose
        self._what = ""
        self._ended, self._news = threading.Event(), threading.Event()
        self._told = ""
        self._thread = threading.Thread(target=self._report, name="progress", daemon=True)
        self.step(what, total)

    def __enter__(self) -> Progress:
        if self._shown:
            self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()
        self._end_step()

    def step(self, what: str, total: int | None = None) -> None:
        """Begin a step; `done` counts towards `total`, if given."""
        self._end_step()
        self._what, self._total, self._done = what, total, 0
        self._began, self._share_before = time.monotonic(), _share_read() or 0.0
        if self.detail and (figure := self.detail()) and not self._told:
            self._told = figure
            self._news.set()

    def _end_step(self) -> None:
        if self._what and self._each_step:
            self.clear()
            counted = f": {self._done:,}" if self._done else ""
            sys.stderr.write(f"{self._what}{counted}, took {time.monotonic() - self._began:.1f} s\n")

    def count(self, what: str, number: int) -> None:
        """Report progress of the step `what`; a different name begins a new step."""
        if what != self._what:
            self.step(what)
        self._done = number

    def done(self, number: int) -> None:
        """Report how many of the step's total are done."""
        self._done = number

    def _report(self) -> None:
        first, between = LIVE if self._live else LINES
        if self._ended.wait(first):
            return
        self._news.clear()
        while not self._ended.is_set():
            line = self.line(time.monotonic())
            sys.stderr.write(f"{_CLEAR}{line}" if self._live else f"{line}\n")
            sys.stderr.flush()
            self._news.wait(between)
            self._news.clear()  # before `_ended` is checked, which is set first
        self.clear()

    def clear(self) -> None:
        """Clear the live line, so that something else can be printed."""
        if self._live:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()

    def line(self, now: float) -> str:
        """`reading: 12,000, 24 %, 3 s so far, about 9 s left`."""
        took = max(0.0, now - self._began)
        before = 0.0 if self._total else self._share_before
        share = self._done / self._total if self._total else _share_read()
        if share is not None and not before <= share < 1 or share == before:
            share = None  # unknown, or nothing was read in this step
        parts = [f"{self._what}: {self._done:,} of {self._total:,}" if self._total else self._what]
        if self._done and not self._total:
            parts[0] += f": {self._done:,}"
        if share is not None:
            parts.append(f"{share:.0%}")
        parts.append(f"{took:.0f} s so far")
        if share is not None:
            parts.append(f"about {took * (1 - share) / (share - before):.0f} s left")
        return "; ".join(filter(None, (", ".join(parts), self.detail and self.detail())))


def _share_read() -> float | None:
    """The fraction of the open source that has been read; None if its length is not known."""
    position = reader.position()
    return position.read / position.of if position and position.of else None
