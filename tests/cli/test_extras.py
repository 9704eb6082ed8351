"""If an optional Python package is missing, commands that need it name what to install; the others work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.extras import EXTRAS

WITHOUT = f"import sys; sys.modules |= dict.fromkeys({list(EXTRAS)}); from {{}} import main; sys.exit(main())"


def without_extras(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT.format(module), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["record", "--out", "never.jsonl"], "cluster"),
        (["replay", "kafka://127.0.0.1:1/t", "--kernel", "memory"], "kafka"),
        (["copy", "recordings/demo.jsonl", "kafka://127.0.0.1:1/t"], "kafka"),
        (["chaos", "run", "pod-kill"], "chaos"),
        (["chaos", "validate", "pod-kill"], "chaos"),
        (["lab", "up"], "cluster"),
        (["kafka", "up", "--data", "never"], "kafka"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else value,
)
def test_a_command_says_what_to_install(arguments, extra):
    done = without_extras("harness.cli", *arguments)
    assert done.returncode in (1, 2) and f"pip install '.[{extra}]'" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_engine_says_what_to_install(tmp_path):
    done = without_extras("engine.server.main", "--hostname-override=n", f"--kubeconfig={tmp_path}/k")
    assert done.returncode == 1 and "pip install '.[cluster]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "recordings/demo.jsonl", "--kernel", "memory", "--until", "60"],
        ["compare", "recordings/demo.jsonl", "--kube-versions", "1.30,1.37"],
        ["validate", "recordings/demo.jsonl"],
        ["--help"],
    ],
    ids=lambda words: words[0],
)
def test_commands_without_extras_work(arguments):
    done = without_extras("harness.cli", *arguments)
    assert done.returncode == 0, done.stderr
