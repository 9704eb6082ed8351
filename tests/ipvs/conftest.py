"""The node that all kernel tests of this folder share."""

from __future__ import annotations

import pytest

from .node import open_node


@pytest.fixture(scope="session")
def node():
    """One world for all tests: each programs it again, on top of what the previous one left."""
    with open_node() as made:
        yield made
