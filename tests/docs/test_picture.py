"""docs/replay.svg, the picture in README.md: its machine-independent parts equal a replay's current output."""

from __future__ import annotations

import html
import re

from harness.replay.kernels import open_kernel
from harness.replay.report.terminal import picture
from harness.replay.session import ReplayOptions, ReplaySession

from .commands import ROOT

LARGE = "recordings/10k-svc.jsonl"
PICTURE = ROOT / "docs" / "replay.svg"
SECONDS = re.compile(r" *[\d,]+\.\d+")
SAME = re.compile(r"harness replay .*|recordings/.* sha256 .*|digest .*|.* [\d,]+( #){5}")
"""Its title, the recording, the digest, and the rows of the tables: name, count, percentiles."""


def lines(svg: str) -> list[str]:
    """The picture's lines by their place, without times, of which every machine has others."""
    rows: dict[float, str] = {}
    for y, text in re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>(.*?)</text>', svg):
        rows[float(y)] = f"{rows.get(float(y), '')} {html.unescape(text)}"
    masked = (" ".join(SECONDS.sub(" #", row).split()) for _, row in sorted(rows.items()))
    return [row for row in masked if SAME.fullmatch(row)]


def test_the_picture_is_of_this_replay(monkeypatch):
    monkeypatch.chdir(ROOT)
    with open_kernel("memory", "nftables") as target:
        now = ReplaySession(LARGE, ReplayOptions(verify="none"), target, lambda *_: None).run()
    expected = lines(picture(now))
    assert len(expected) >= 9
    assert lines(PICTURE.read_text()) == expected, f"run: harness replay {LARGE} --svg {PICTURE.relative_to(ROOT)}"
