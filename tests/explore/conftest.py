"""Pages that a real `harness explore` serves."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.explore.history import History, read_history
from harness.log import open_source

DEMO = "recordings/demo.jsonl"


@pytest.fixture(scope="session")
def demo() -> History:
    with open_source(DEMO) as recording:
        return read_history(recording)


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """The page's URL while the command runs; it must end cleanly by SIGTERM."""
    command = [sys.executable, "-m", "harness", "explore", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("open http://127.0.0.1:"), line
            yield line.split()[1]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


@pytest.fixture(scope="session")
def page() -> Iterator[str]:
    with serving(DEMO) as url:
        yield url
