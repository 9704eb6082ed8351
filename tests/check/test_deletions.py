"""Some of every shape that programs consist of: without it the readback sees a difference (see `deletions`)."""

from __future__ import annotations

import pytest

from harness.modes import MODES
from tests.check.deletions import BEGIN, END, RECORDINGS, ROOT, read, sample, unseen

from .held import FAMILIES


@pytest.mark.parametrize("recording", RECORDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_a_missing_part_is_detected(mode, recording, kernel_namespaces):
    programs = read(mode, recording)
    for family in FAMILIES:
        some = sample(programs[family].things, 1)
        assert len(some) > 20
        assert [f"{thing.kind} {thing.name}" for thing in unseen(programs[family], some)] == []


def test_only_unused_parts_are_excused():
    """Otherwise parts that matter would be excused."""
    for mode, recording in (("userspace", "demo"), ("iptables", "demo")):
        program = read(mode, recording)[6]
        idle = [thing for thing in program.things if thing.name in program.idle]
        assert idle and unseen(program._replace(idle=frozenset()), idle) == idle


def test_every_deletion_on_the_page_is_detected():
    page = (ROOT / "docs" / "verification.md").read_text()
    rows = page[page.index(BEGIN) : page.index(END)].splitlines()[3:]
    assert {row.split(" | ")[0].strip("| ") for row in rows} == set(MODES)
    assert all(row.split("|")[6].strip() == "" for row in rows)
