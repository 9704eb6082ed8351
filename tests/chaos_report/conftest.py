"""A browser for the page's tests: real Chromium, one for all of them."""

from __future__ import annotations

import os

import pytest

from tests.chaos_report.chromium import BROWSER, DRIVER, Chromium


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Needs chromium and chromedriver: without them a reported skip, on CI a failure."""
    if not (BROWSER and DRIVER):
        why = "chromium and chromium-driver are not installed (scripts/setup.sh installs them when root)"
        if os.environ.get("CI"):
            pytest.fail(f"the page's tests never skip on CI: {why}")
        pytest.skip(f"NO BROWSER TESTS: {why}")
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
