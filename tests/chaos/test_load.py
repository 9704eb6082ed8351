"""Processes that drive the load."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from chaos import load
from harness.lab.control import LabError

LATE = 'sleep 0.5; echo \'{"kind": "second"}\' > {out}; sleep 60'


@pytest.mark.parametrize(("timeout_seconds", "begins"), [(30.0, True), (0.0, False)])
def test_the_start_of_a_load_with_slow_requests_may_be_late(
    tmp_path: Path, monkeypatch, timeout_seconds: float, begins: bool
):
    """Its first second is logged only once no more of its requests can be answered."""
    monkeypatch.setattr(load, "START_SECONDS", 0.1)
    out = tmp_path / "client.jsonl"
    out.with_suffix(".log").touch()
    with subprocess.Popen(["sh", "-c", LATE.replace("{out}", str(out))]) as process:
        started = load.LoadProcess("client", out, process, timeout_seconds)
        if begins:
            started.await_begun()
        else:
            with pytest.raises(LabError, match="did not begin"):
                started.await_begun()
        process.kill()
