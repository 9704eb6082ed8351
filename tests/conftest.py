"""Fixtures that every part's tests share."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from harness.namespace import Namespace, NamespaceError

pytest_plugins = ["tests.in_uml"]

settings.register_profile("fast", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples on every run of CI: what it says is about the change, not about luck.
settings.register_profile("ci", settings.get_profile("fast"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "fast"))


@pytest.fixture(scope="session")
def kernel_namespaces() -> None:
    """Needs user and network namespaces: a loud skip without them, a failure on CI."""
    try:
        with Namespace():
            pass
    except NamespaceError as error:
        if os.environ.get("CI"):
            pytest.fail(f"kernel tests never skip on CI: {error}")
        pytest.skip(f"NO KERNEL TESTS: {error}")


@pytest.fixture
def namespace(kernel_namespaces):
    """A throwaway user and network namespace."""
    with Namespace() as made:
        yield made


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """A real Kafka broker, started once: a loud skip where none is to be had, a failure on CI."""
    from harness.kafka.broker import Broker, BrokerError

    made = Broker(tmp_path_factory.mktemp("kafka"))
    try:
        made.up()
    except BrokerError as error:
        if os.environ.get("CI"):
            pytest.fail(f"Kafka tests never skip on CI: {error}")
        pytest.skip(f"NO KAFKA TESTS: {error}")
    yield made
    made.down()
