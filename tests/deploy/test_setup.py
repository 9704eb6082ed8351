"""scripts/setup.sh on machines that lack what it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/setup.sh"
TOOLS = ("bash", "dirname", "sh")
OLD = "#!/bin/sh\ncase $2 in *platform*) echo 3.9.18;; *) exit 1;; esac\n"
"""A Python that refuses the question whether it is new enough, and states its version."""


@pytest.mark.parametrize(
    ("python", "found"),
    [(OLD, "3.9.18"), ("", "not installed")],
    ids=["too old", "none"],
)  # fmt: skip
def test_a_python_that_is_too_old_is_named_before_anything_is_done(tmp_path, python, found):
    for tool in TOOLS:
        (tmp_path / tool).symlink_to(shutil.which(tool))
    if python:
        (tmp_path / "python3").write_text(python)
        os.chmod(tmp_path / "python3", 0o755)
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPT, checkout / "scripts")
    done = subprocess.run(
        ["bash", checkout / "scripts/setup.sh", "replay"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    assert (
        done.stderr
        == f"setup.sh: Python 3.11 or newer is needed as python3 or python3.11 on PATH; python3 is {found}\n"
    )
    assert [each.name for each in checkout.iterdir()] == ["scripts"]
