"""Correct rules for addresses that several want: the judge says nothing, in any mode."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.judge.verify import readback
from harness.modes import MODES, mode_of

from .held import RICH, program

INPUTS = sorted((Path(__file__).parent / "data").glob("*.json"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", [*map(str, INPUTS), RICH], ids=lambda path: Path(path).stem)
def test_no_difference_where_there_is_none(mode, path):
    programmed = program(mode_of(mode).memory(), mode, path)
    found = readback(programmed.view, programmed.oracle, mode)
    assert found.differences == [] and sum(found.checked.values()) > 0
    assert found.unchecked or mode == "ipvs", "a kernel that only remembers has no rules or sysctls to look at"


@pytest.mark.parametrize("mode", MODES)
def test_what_cannot_be_read_is_a_difference(mode):
    programmed = program(mode_of(mode).memory(), mode, RICH)

    class Broken:
        def judged(self, family, expected, settings):
            raise KeyError("no such chain")

    assert readback(Broken(), programmed.oracle, mode).differences == [
        f"IPv{family}: the kernel's state cannot be read: 'no such chain'" for family in (4, 6)
    ]
