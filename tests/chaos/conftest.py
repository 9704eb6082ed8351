"""Clusters for tests of `--target kube`."""

import pytest

from tests.chaos.stand import Cluster


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def untouched(tmp_path_factory):
    """A cluster for tests that must not change it."""
    with Cluster(tmp_path_factory.mktemp("untouched")) as made:
        yield made
