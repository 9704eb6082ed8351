"""The node that all kernel tests of this folder share."""

from __future__ import annotations

import pytest

from .node import open_node


@pytest.fixture(scope="session")
def node():
    """One world for all tests: each programs it anew, on what the one before has left."""
    with open_node() as made:
        yield made
