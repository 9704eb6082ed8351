"""Progress of long steps, with and without a terminal."""

from __future__ import annotations

import io
import re
import time

import pytest

from harness.cli import progress
from harness.cli.commands import replay
from harness.cli.progress import Progress
from harness.log import open_source
from harness.replay.compare import runs
from harness.replay.session import ReplayOptions
from tests.waiting import until


class Terminal(io.StringIO):
    """Standard error that is a terminal, or is none."""

    def __init__(self, live: bool) -> None:
        super().__init__()
        self._live = live

    def isatty(self) -> bool:
        return self._live


EITHER = pytest.mark.parametrize("live", [True, False], ids=["terminal", "pipe"])


@EITHER
def test_a_quick_step_shows_no_progress(live, monkeypatch):
    shown = Terminal(live)
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.delenv(progress.VARIABLE)
    with Progress("reading"):
        pass
    assert "reading" not in shown.getvalue()


def test_progress_on_standard_error_can_be_silenced(monkeypatch):
    shown = Terminal(False)
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setattr(progress, "LINES", (0.0, 0.01))
    monkeypatch.setenv(progress.VARIABLE, "none")
    with Progress("reading"):
        pass
    assert shown.getvalue() == ""


def test_a_mode_s_reason_is_free_of_progress():
    """A comparison reads its replays' standard error."""
    code, words = runs._finish(["sh", "-c", f"echo ${progress.VARIABLE} >&2; exit 3"])
    assert (code, words) == (3, "none\n")


@EITHER
def test_progress_of_a_long_step_is_shown_and_removed(live, monkeypatch):
    shown = Terminal(live)
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.delenv(progress.VARIABLE)
    for name in ("LIVE", "LINES"):
        monkeypatch.setattr(progress, name, (0.0, 0.01))
    with Progress("judging cases", 40) as made:
        made.done(10)
        until(lambda: "10 of 40" in shown.getvalue())
    text = shown.getvalue()
    assert re.search(r"judging cases: 10 of 40, 25%, \d+ s so far, about \d+ s left", text)
    if shown.isatty():
        assert text.endswith("\r\x1b[K") and "\n" not in text
    else:
        assert "\x1b" not in text and text.endswith("\n")


def test_a_replay_shows_its_first_figure_while_it_still_checks(monkeypatch):
    """Initial convergence is known long before a large recording is verified."""
    shown = Terminal(False)
    monkeypatch.delenv(progress.VARIABLE)
    monkeypatch.setattr(progress, "LINES", (0.0, 0.001))
    monkeypatch.setattr("sys.stderr", shown)
    result = replay._run("recordings/demo.jsonl", ReplayOptions(), "memory", None, None)
    assert f"; initial convergence {result.initial.seconds:.3f} s" in shown.getvalue()


def test_reading_counts_by_bytes_and_every_step_by_itself():
    with open_source("recordings/demo.jsonl") as source:
        made = Progress("reading")
        begun = time.monotonic()
        assert "left" in made.line(begun + 4) or "s so far" in made.line(begun + 4)
        events = iter(source)
        next(events)
        share = progress._share_read()
        assert 0 < share <= 1
        list(events)
        assert progress._share_read() == 1
        made.count("replaying", 1000)
        assert made.line(time.monotonic() + 3).startswith("replaying: 1,000, 3 s so far")


def test_a_first_figure_is_printed_at_once(monkeypatch, capsys):
    monkeypatch.delenv(progress.VARIABLE)
    monkeypatch.setattr(progress, "LINES", (0.0, 3600.0))
    figure = ""
    with Progress("reading", detail=lambda: figure) as shown:
        said = until(lambda: capsys.readouterr().err)
        figure = "initial convergence 2.000 s"
        shown.step("checking")
        said += until(lambda: capsys.readouterr().err)
    assert [line.split(",")[0] for line in said.splitlines()] == ["reading", "checking"]
    assert said.endswith("s so far; initial convergence 2.000 s\n")
