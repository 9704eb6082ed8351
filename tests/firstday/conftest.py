"""An account for each test; those without namespaces are made from it."""

from __future__ import annotations

import pytest

from tests.firstday.account import Account, account


@pytest.fixture
def user(kernel_namespaces) -> Account:
    """An ordinary user."""
    with account() as made:
        yield made
