"""A recording that grows while it is explored: the page follows, and every moment equals the commands' output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main
from tests.waiting import until

from .conftest import DEMO, serving
from .test_page import AT, eventually, get, opened, press

pytestmark = pytest.mark.xdist_group("chromium")

LINES = Path(DEMO).read_bytes().splitlines(keepends=True)
MOST = "return document.querySelector('input[type=range]').max"
LIVE = "document.querySelector('button[aria-pressed]')"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_the_page_follows_a_file_that_grows(chromium, tmp_path):
    path = tmp_path / "growing.jsonl"
    append(path, b"".join(LINES[:151]))
    with serving(str(path), "--follow") as url:
        opened(chromium, url)
        eventually(chromium, AT, "150")
        append(path, b"".join(LINES[151:201]) + LINES[201][:40])
        eventually(chromium, AT, "200")
        press(chromium, "ArrowLeft")
        eventually(chromium, AT, "199")
        eventually(chromium, f"return {LIVE}.ariaPressed", "false")
        append(path, LINES[201][40:] + b"".join(LINES[202:]))
        eventually(chromium, MOST, str(len(LINES) - 1))
        assert chromium.run(AT) == "199", "a moment that was chosen stays"
        chromium.run(f"{LIVE}.click()")
        eventually(chromium, AT, str(len(LINES) - 1))
        for count in (150, 199, len(LINES) - 1):
            printed = CliRunner().invoke(main, ["inspect", str(path), "--at", str(count)])
            assert get(url, f"save/state.json?at={count}") == json.loads(printed.stdout)
        append(path, b"no event\n")
        eventually(
            chromium, "return document.querySelector('.timeline [role=alert]')?.textContent.includes(':302')", True
        )
        assert get(url, "save/state.json?at=150"), "what was read is still there"


def test_a_recording_may_begin_after_the_page(tmp_path):
    path = tmp_path / "growing.jsonl"
    append(path, LINES[0])
    with serving(str(path), "--follow") as url:
        assert get(url, "api/overview")["events"] == 0
        append(path, b"".join(LINES[1:]))
        assert get(url, "api/grown?events=0")["events"] > 0, "the question waits for the answer"
        until(lambda: get(url, "api/overview")["events"] == len(LINES) - 1, "all events are there")
        assert get(url, f"api/grown?events={len(LINES) - 2}") == {"events": len(LINES) - 1, "ended": ""}
