"""Clusters and recorders that end with the test."""

from __future__ import annotations

import pytest

from tests.record.cluster import Cluster, Recorder


@pytest.fixture
def cluster(tmp_path):
    """A cluster with some objects."""
    with Cluster(tmp_path) as made:
        made.churn(seed=1, changes=60)
        yield made


@pytest.fixture
def record():
    """record(cluster, *options) -> Recorder."""
    started: list[Recorder] = []

    def start(cluster: Cluster, *options) -> Recorder:
        started.append(Recorder(cluster, *options))
        return started[-1]

    yield start
    for recorder in started:
        if recorder.process.poll() is None:
            recorder.process.kill()
        recorder.process.wait(60)
