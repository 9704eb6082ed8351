"""`harness synth`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.commands.synth import synth


def test_help_has_examples():
    result = CliRunner().invoke(synth, ["--help"])
    assert result.exit_code == 0 and "Examples:" in result.output


def test_bad_options_exit_2(tmp_path):
    out = tmp_path / "x.jsonl"
    assert CliRunner().invoke(synth, [str(out), "--services", "0"]).exit_code == 2
    assert not out.exists()


def test_writes_a_recording(tmp_path):
    pytest.importorskip("harness.log")
    out = tmp_path / "x.jsonl"
    result = CliRunner().invoke(synth, [str(out), "--services", "5", "--churn", "20", "--nodes", "3"])
    assert result.exit_code == 0, result.output
    assert "of which 20 are churn" in result.output
    assert out.read_bytes().count(b"\n") > 30


def test_the_fixed_recording_takes_no_other_option(tmp_path):
    out = tmp_path / "rules.jsonl"
    result = CliRunner().invoke(synth, [str(out), "--every-rule", "--seed", "2"])
    assert result.exit_code == 2 and "takes no other options" in result.output and not out.exists()
    assert CliRunner().invoke(synth, [str(out), "--every-rule"]).exit_code == 0
    assert out.read_bytes() == (Path(__file__).parents[2] / "recordings" / "rules.jsonl").read_bytes()
