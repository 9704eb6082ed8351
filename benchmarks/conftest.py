"""Shared fixtures of the benchmarks: synthetic recordings, and a table of figures with their references.

Figures are ratios within one run wherever they can be, since machines differ and are noisy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from harness.log import write_recording
from harness.log.synth import SynthOptions, generate

_figures: list[tuple[str, str, str, str]] = []


@pytest.fixture(scope="session")
def recording_of(tmp_path_factory):
    """recording_of(services, endpoints, churn=0) -> path, generated once per session."""
    folder = tmp_path_factory.mktemp("recordings")

    def make(services: int, endpoints: int, churn: int = 0) -> Path:
        path = folder / f"{services}x{endpoints}-{churn}.jsonl"
        if not path.exists():
            header, events = generate(SynthOptions(services, endpoints, churn, nodes=max(10, services // 20)))
            write_recording(path, header, events)
        return path

    return make


@pytest.fixture(scope="session")
def replay():
    """replay(path, *options) -> the JSON result of a separate `harness replay` process."""

    def run(path: Path, *options: str) -> dict:
        command = [sys.executable, "-m", "harness", "replay", str(path), "--no-verify", "--json", "-", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """A real Kafka broker, started once."""
    from harness.log.kafka.broker import Broker

    made = Broker(tmp_path_factory.mktemp("kafka"))
    made.up()
    yield made
    made.down()


@pytest.fixture
def figure(benchmark):
    """figure(what, measured, target, reference): one row of the table at the end."""

    def add(what: str, measured: str, target: str = "", reference: str = "") -> None:
        _figures.append((what, measured, target, reference))
        benchmark.extra_info[what] = measured

    return add


def pytest_terminal_summary() -> None:
    """Print all figures with their references."""
    if not _figures:
        return
    table = Table(title="figures of this run")
    for column in ("figure", "measured", "target", "reference"):
        table.add_column(column)
    for row in _figures:
        table.add_row(*row)
    Console(width=150).print(table)
