"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings

from engine.paths import add_sbin
from harness.places.namespace import Namespace, NamespaceError

os.environ["HARNESS_PROGRESS"] = "none"  # how busy the machine is must not change what a command says

add_sbin()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A background process of a shell ignores Ctrl-C, and so would every command that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.in_vm"]

settings.register_profile("fast", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples on every run of CI: what it says is about the change, not about luck.
settings.register_profile("ci", settings.get_profile("fast"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "fast"))

NOT_RUN = pytest.StashKey[Counter[str]]()
"""How many tests the marks leave out, by folder."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Groups first, the virtual machine's before all: they wait long, and the other workers run the rest meanwhile."""
    if hasattr(config, "workeroutput"):
        items.sort(key=lambda item: (item.get_closest_marker("vm") is None, not item.get_closest_marker("xdist_group")))
        for item in items:
            _make_once(item)


def _make_once(item: pytest.Item) -> None:
    """Tests that use fixtures of their module are one group, without one of their own: workers share no fixtures."""
    used = item._fixtureinfo.name2fixturedefs.values()
    if not item.get_closest_marker("xdist_group") and any(each[-1].scope == "module" for each in used):
        item.add_marker(pytest.mark.xdist_group(item.location[0]))


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count them: a worker's go to the process that reports."""
    if not items:
        return
    config = items[0].config
    counts = config.stash.setdefault(NOT_RUN, Counter())
    counts.update(str(item.path.parent.relative_to(config.rootpath)) for item in items)
    if hasattr(config, "workeroutput"):
        config.workeroutput["not_run"] = dict(counts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    """Every worker has collected, and left out, the same."""
    counts = getattr(node, "workeroutput", {}).get("not_run", {})
    node.config.stash[NOT_RUN] = Counter(counts) | node.config.stash.get(NOT_RUN, Counter())


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Report deselected tests; skipped ones are in pytest's own summary, with the reason."""
    if counts := config.stash.get(NOT_RUN, None):
        terminalreporter.section(
            f"NOT RUN: {counts.total()} tests, left out by -m '{config.option.markexpr}'", yellow=True
        )
        for folder, count in sorted(counts.items()):
            terminalreporter.line(f"NOT RUN [{count}] {folder}")
        terminalreporter.line("make test-vm runs those in a virtual machine")


@pytest.fixture(scope="session")
def kernel_namespaces() -> None:
    """Needs user and network namespaces: without them a reported skip, on CI a failure."""
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
    """A real Kafka broker, started once: without one a reported skip, on CI a failure."""
    from harness.log.kafka.broker import Broker, BrokerError

    made = Broker(tmp_path_factory.mktemp("kafka"))
    try:
        made.up()
    except BrokerError as error:
        if os.environ.get("CI"):
            pytest.fail(f"Kafka tests never skip on CI: {error}")
        pytest.skip(f"NO KAFKA TESTS: {error}")
    yield made
    made.down()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Real Chromium, for the group of that name. Without it and chromedriver a reported skip, on CI a failure."""
    from tests.chaos_report.chromium import BROWSER, DRIVER, Chromium

    if not (BROWSER and DRIVER):
        why = "chromium and chromium-driver are not installed (scripts/setup.sh installs them when root)"
        if os.environ.get("CI"):
            pytest.fail(f"the page's tests never skip on CI: {why}")
        pytest.skip(f"NO BROWSER TESTS: {why}")
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
