"""Temporary folders of processes that were killed, and all that must not be taken for one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness.temporary import LOCK, temporary_folder

PRODUCT = ("harness", "chaos", "loadtests")
HOLDER = """
import sys
from pathlib import Path
from harness.temporary import temporary_folder
with temporary_folder("test", Path(sys.argv[1])) as folder:
    (folder / "in").mkdir()
    print(folder, flush=True)
    sys.stdin.read()
"""


def holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process with a folder."""
    command = [sys.executable, "-c", HOLDER, str(parent)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, Path(process.stdout.readline().strip())


def test_a_killed_process_leaves_a_folder_to_the_next_one_and_a_living_one_keeps_its_own(tmp_path):
    killed, left = holder(tmp_path)
    living, kept = holder(tmp_path)
    killed.kill()
    killed.communicate()
    assert (left / "in").is_dir()
    with temporary_folder("other", tmp_path):
        assert left.exists()
    with temporary_folder("test", tmp_path) as own:
        assert set(tmp_path.iterdir()) == {own, kept} and (kept / "in").is_dir()
    living.communicate("")
    assert list(tmp_path.iterdir()) == [] and living.returncode == 0


def test_what_is_not_a_leftover_stays(tmp_path):
    killed, left = holder(tmp_path)
    killed.kill()
    killed.communicate()
    boot, found = (left / LOCK).read_text(), {}
    for name, text in (("without-lock", None), ("just-made", ""), ("another-machine", "0" + boot), ("linked", boot)):
        found[name] = (tmp_path if name == "linked" else tmp_path / "place") / f"harness-test-{name}"
        found[name].mkdir(parents=True)
        if text is not None:
            (found[name] / LOCK).write_text(text)
    (tmp_path / "place" / "harness-test-link").symlink_to(found["linked"])
    (tmp_path / "place" / "harness-test-file").write_text(boot)
    if os.geteuid() == 0:
        shutil.copytree(left, tmp_path / "place" / "harness-test-of-another-user")
        os.chown(tmp_path / "place" / "harness-test-of-another-user", 12345, 12345)
    shutil.copytree(left, tmp_path / "place" / "harness-test-left")
    before = set((tmp_path / "place").rglob("*"))
    with temporary_folder("test", tmp_path / "place") as own:
        gone = before - set((tmp_path / "place").rglob("*"))
        assert own.exists() and gone and {path.name for path in gone} == {"harness-test-left", "in", LOCK}
        assert all("harness-test-left" in str(path) for path in gone) and (found["linked"] / LOCK).exists()


def test_no_other_module_makes_temporary_folders():
    names = ("TemporaryDirectory", "NamedTemporaryFile", "mkdtemp", "mkstemp")
    using = {
        str(path)
        for part in PRODUCT
        for path in Path(part).rglob("*.py")
        if any(name in path.read_text() for name in names)
    }
    assert using == {"harness/temporary.py"}
