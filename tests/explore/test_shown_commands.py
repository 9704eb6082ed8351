"""Every `harness explore` that a page shows is run as written, on what the page is about, until it has served."""

from __future__ import annotations

import urllib.request

import pytest

from tests.chaos_report.runs import ordinary
from tests.docs.commands import make_folder, run, shown

from .conftest import serving

SHOWN = sorted({each.words for each in shown() if each.words[:2] == ("harness", "explore")})
ELSEWHERE = "kafka://"
"""A topic is followed in tests/kafka/test_topics.py."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With the results and the run that the pages speak of."""
    made = tmp_path_factory.mktemp("user")
    make_folder(made)
    memory = ("--kernel", "memory", "--no-verify")
    for words in (
        ("harness", "replay", str(made / "recordings/demo.jsonl"), *memory, "--json", str(made / "demo.json")),
        (
            "harness",
            "fleet",
            str(made / "dump.json"),
            "--workers",
            "0",
            "--sample",
            "0",
            "--json",
            str(made / "fleet.json"),
        ),
    ):
        code, output = run(words)
        assert code == 0, output
    (ordinary(made / "chaos-pod-kill-nftables") / "verdict.json").write_text('{"value": null, "findings": []}')
    return made


@pytest.mark.parametrize("words", [each for each in SHOWN if ELSEWHERE not in each[2]], ids=" ".join)
def test_it_serves(words, folder, monkeypatch):
    monkeypatch.chdir(folder)
    with serving(*words[2:]) as url, urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.status == 200 and b"<html" in answer.read()


def test_they_are_found():
    assert len(SHOWN) >= 6
