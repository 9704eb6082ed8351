"""`harness synth`."""

import pytest
from click.testing import CliRunner

from harness.cli.synth import synth


def test_help_has_examples():
    result = CliRunner().invoke(synth, ["--help"])
    assert result.exit_code == 0 and "Examples:" in result.output


def test_bad_options_exit_2(tmp_path):
    out = tmp_path / "x.jsonl"
    assert CliRunner().invoke(synth, [str(out), "--services", "0"]).exit_code == 2
    assert not out.exists()


def test_writes_a_recording(tmp_path):
    pytest.importorskip("harness.recording")
    out = tmp_path / "x.jsonl"
    result = CliRunner().invoke(synth, [str(out), "--services", "5", "--churn", "20", "--nodes", "3"])
    assert result.exit_code == 0, result.output
    assert "20 of them churn" in result.output
    assert out.read_bytes().count(b"\n") > 30
