"""The workflows and the action: their commands and options exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from harness.cli import main

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


def jobs() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each step with its job."""
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job["steps"]:
                yield job, step


def given() -> Iterator[str]:
    """The commands passed to our own action, for each entry of a matrix."""
    for job, step in jobs():
        if step.get("uses") == "./":
            text = step["with"]["args"]
            each = job.get("strategy", {}).get("matrix", {}).get("include", [{}])
            yield from (text.replace("${{ matrix.args }}", entry.get("args", "")) for entry in each)


def shown() -> Iterator[str]:
    """Commands of the harness in scripts."""
    for _, step in jobs():
        yield from re.findall(r"^\s*(?:\.venv/bin/)?harness (.*)$", step.get("run", ""), re.M)


COMMANDS = [*given(), *shown()]


@pytest.mark.parametrize("text", COMMANDS)
def test_a_command_is_parsed(text):
    context, found, arguments = click.Context(main), main, shlex.split(text)
    while isinstance(found, click.Group):
        name, found, arguments = found.resolve_command(context, arguments)
    found.make_context(name, arguments, parent=context)


def test_workflows_run_benchmarks_and_conformance():
    assert {text.split()[0] for text in COMMANDS} >= {"bench", "conformance", "chaos", "replay"}


def test_files_named_by_workflows_exist():
    scripts = [step["run"] for _, step in jobs() if "run" in step]
    targets = {word for text in scripts for word in re.findall(r"^make (\S+)", text, re.M)}
    assert targets <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)) and targets
    tested = {word for text in scripts for word in re.findall(r"\btests/\S+", text)}
    assert tested and all((ROOT / name).exists() for name in tested)
    extras = {e for text in scripts for found in re.findall(r"'\.\[(\S+)\]'", text) for e in found.split(",")}
    extras |= set(ACTION["inputs"]["extras"]["default"].split(","))
    known = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)
    assert extras <= set(known)


def test_workflows_pass_existing_inputs_to_the_action():
    for _, step in jobs():
        if step.get("uses") == "./":
            assert set(step["with"]) <= set(ACTION["inputs"])


def test_the_action_runs_its_arguments_and_ends_with_their_exit_code(tmp_path):
    (script,) = [step["run"] for step in ACTION["runs"]["steps"] if "ARGS" in step.get("env", {})]
    fake = tmp_path / "harness"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n')
    fake.chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ARGS": "bench\n--external kp='a --config={config}'"}
    done = subprocess.run(["bash", "-e", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()) == (7, ["bench", "--external", "kp=a --config={config}"])


def test_every_supported_python_is_in_the_matrix_and_the_next_one():
    (matrix,) = [each for job, _ in jobs() if (each := job.get("strategy", {}).get("matrix", {}).get("python"))][:1]
    listed = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert matrix[: len(listed)] == listed and len(matrix) == len(listed) + 1 >= 4
