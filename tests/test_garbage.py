"""Garbage collection is paused for a while, and only then."""

from __future__ import annotations

import gc

import pytest

from harness.garbage import uncollected


def test_it_is_paused_and_resumed_also_after_an_error_and_when_nested():
    with pytest.raises(KeyError), uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
