"""The sdist, the wheel built from it, and the commands without a checkout or network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("packages")
"""They are built once."""

ROOT = Path(__file__).parents[2]
PACKAGES = ("engine", "harness", "chaos", "loadtests")
OFFLINE = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def packaged() -> set[str]:
    """Every file of ours that is under version control and belongs to a package."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return {name for name in tracked if name.split("/")[0] in PACKAGES and (ROOT / name).exists()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory, packaged) -> Path:
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sdist")
    for name in [*packaged, "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "tests/test_structure.py"]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, timeout=120, capture_output=True)
    return next(out.iterdir())


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [*OFFLINE, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", str(out), str(sdist)]
    subprocess.run(command, check=True, timeout=120)
    return next(out.iterdir())


def test_packages_hold_all_our_modules_and_no_tests(sdist, wheel, packaged):
    """Templates, experiments, scripts and lists as well: what a package reads at run time."""
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert packaged - names == set() and not [name for name in names if name.startswith("tests")]
    with zipfile.ZipFile(wheel) as packed:
        assert packaged - set(packed.namelist()) == set()
        assert {name.split("/")[0] for name in packed.namelist()} - set(PACKAGES) == {
            f"{wheel.name.rsplit('-', 3)[0]}.dist-info"
        }


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    site = tmp_path_factory.mktemp("site")
    command = [*OFFLINE, "install", "--no-index", "--no-deps", "--no-compile", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True, timeout=120)
    return site


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["replay", "demo.jsonl", "--kernel", "memory", "--until", "20"], "verified in memory"),
        (["chaos", "plan", "pod-kill"], "seed"),
    ],
    ids=["replay", "chaos"],
)
def test_an_installed_wheel_needs_no_checkout(installed, tmp_path, command, shown):
    shutil.copy(ROOT / "recordings/demo.jsonl", tmp_path)
    done = subprocess.run(
        [sys.executable, "-P", str(installed / "bin" / "harness"), *command], cwd=tmp_path, timeout=120, check=False,
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(installed)},
    )  # fmt: skip
    assert done.returncode == 0 and shown in done.stdout, done.stdout + done.stderr


def test_declared_python_versions_match_requires_python():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    assert project["requires-python"] == f">={named[0]}" and len(named) >= 3
