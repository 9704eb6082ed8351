"""Every command of a page that goes on until it is stopped is run as written, until it has done what it is for.

Commands of other programs are run against what they serve.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serve.conftest import kubectl
from tests.waiting import until

from .commands import ROOT, Command, make_folder, shown
from .others import NOT_RUN, Line, lines

__all__ = ["kubectl"]

SERVED = list({each.words: each for each in shown() if each.words[0] == "harness" and each.serves}.values())
FIRST = next(each for each in SERVED if each.words[1:3] == ("serve", "recordings/demo.jsonl"))
LINES = list(lines())
RUN = [each for each in LINES if not each.not_run]


def named(program: str):
    """The commands of that one, as a parameter."""
    found = [each for each in SERVED if each.words[1] == program and each != FIRST]
    return pytest.mark.parametrize("command", found, ids=lambda each: each.text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("user")
    make_folder(made)
    (made / ".venv").symlink_to(sys.prefix)
    return made


@contextmanager
def started(words: tuple[str, ...], folder: Path, ready: str):
    """The process and its first line with that in it; it must end well by SIGTERM."""
    command = [sys.executable, "-m", *words]
    env = os.environ | {"KUBECONFIG": "kubeconfig"}
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if ready else ""
            assert ready in line, line
            yield process, line
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@pytest.fixture(scope="module")
def served(folder):
    """The URL of the first command of docs/serve.md, which writes `kubeconfig`."""
    with started(FIRST.words, folder, "serving ") as (_, line):
        yield next(word for word in line.split() if word.startswith("http"))


@named("explore")
def test_a_page_is_served(command: Command, folder):
    with (
        started(command.words, folder, "open http://127.0.0.1:") as (_, line),
        urllib.request.urlopen(line.split()[1], timeout=60) as answer,
    ):
        assert answer.status == 200 and b"<html" in answer.read()


@named("serve")
def test_an_api_is_served(command: Command, folder):
    with (
        started(command.words, folder, "serving ") as (_, line),
        urllib.request.urlopen(f"{line.split()[3]}/api/v1/services", timeout=60) as answer,
    ):
        assert json.load(answer)["items"]


@named("record")
def test_a_cluster_is_recorded(command: Command, folder, served):
    written = folder / command.words[command.words.index("--out") + 1]
    written.unlink()
    with started(command.words, folder, ""):
        until(lambda: written.exists() and written.stat().st_size > 5_000, "events are recorded")


@pytest.mark.parametrize("line", RUN, ids=lambda each: f"{each.page}:{each.number} {each.text}")
def test_a_command_line_of_another_program_runs(line: Line, folder, served, kubectl):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"KUBECONFIG": "kubeconfig", "PATH": path, "PYTHONPATH": str(ROOT)}
    command = ["bash", "-c", line.text.replace("URL", served)]
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as process:
        if "--watch" in line.text:
            assert process.stdout.readline()
            process.terminate()
            return
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    if "/control/" in line.text:
        assert json.loads(out)["seq"] >= 0


def test_every_line_is_run_or_has_a_reason():
    assert {each.words[1] for each in SERVED} == {"explore", "record", "serve"} and len(RUN) > 12
    assert [part for part in NOT_RUN if not any(part in each.text for each in LINES)] == [], "reasons for nothing"
    assert all((ROOT / reason.rpartition(": ")[2]).exists() for reason in NOT_RUN.values()), "who runs them instead"
