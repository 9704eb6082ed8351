"""A browser for the pages' tests, the one of the chaos report's."""

from tests.chaos_report.conftest import chromium

__all__ = ["chromium"]
