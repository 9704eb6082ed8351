"""Assumptions of parallel runs (CONTRIBUTING.md)."""

from __future__ import annotations

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="not a parallel run")
@pytest.mark.xdist_group("kept")
def test_groups_are_kept(request):
    """pytest-xdist 3.8 silently scatters groups with pytest 9.2 (pytest-xdist issue 1386)."""
    assert request.node.nodeid.endswith("@kept")
