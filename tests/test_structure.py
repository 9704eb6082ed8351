"""Rules of the repository as tests: sizes, import directions, help of every command."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import engine.modes
from harness.cli import COMMANDS, main
from harness.judge.oracle.modes import TRAITS
from harness.modes import MODES, mode_of

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("engine", "harness", "chaos", "loadtests", "benchmarks", "tests")
MODULES = sorted(path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py"))
PRODUCT = [path for path in MODULES if path.relative_to(ROOT).parts[0] in ("engine", "harness", "chaos", "loadtests")]
MODULE_LINES, FUNCTION_LINES = 400, 60


def test_modules_and_functions_are_short():
    for path in MODULES:
        text = path.read_text()
        assert text.count("\n") <= MODULE_LINES, path
        tree = ast.parse(text)
        assert not text or path.name == "__init__.py" or ast.get_docstring(tree), f"{path}: its role is not said"
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        long = [node.name for node in functions if node.end_lineno - node.lineno > FUNCTION_LINES]
        assert not long, f"{path}: functions of more than {FUNCTION_LINES} lines"


def test_public_names_of_the_product_are_documented():
    for path in PRODUCT:
        tree = ast.parse(path.read_text())
        public = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
        assert [n.name for n in public if not ast.get_docstring(n)] == [], path


NETLINK = ROOT / "engine" / "kernel" / "netlink"
OF_THE_JUDGE = ROOT / "harness" / "judge" / "readback"
"""It reads the kernel by itself, since it must not share the engine's code."""


def test_netlink_headers_are_packed_and_read_in_one_place():
    """Everything else asks it: sequence numbers, acknowledgements, deadlines and buffers are decided once."""
    others = [p for p in PRODUCT if not p.is_relative_to(NETLINK) and not p.is_relative_to(OF_THE_JUDGE)]
    formats = {
        path.name: node.value
        for path in others
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"[=<>@!]? ?IHHI?", node.value)
    }
    assert formats == {"entries.py": "=IHH"}, "struct ipt_entry begins as a netlink header does"


def test_a_silenced_type_says_why():
    """`# type: ignore[code]  # reason`: the next reader must be able to check whether it still holds."""
    lines = [line for path in PRODUCT for line in path.read_text().splitlines() if "type: ignore" in line]
    assert [line for line in lines if not re.search(r"# type: ignore\[[a-z, -]+\]  # \w", line)] == []


def test_private_names_stay_in_their_module():
    """Tests aside: they look at what they test."""
    for path in [each for each in MODULES if not each.is_relative_to(ROOT / "tests")]:
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        names = [alias.name for node in imports if node.module != "__future__" for alias in node.names]
        assert [name for name in names if re.match(r"_[^_]", name)] == [], path


def test_a_mode_has_all_its_places():
    assert {*MODES} == {*engine.modes.MODES} == {*TRAITS} == {mode_of(name).name for name in MODES}


def test_the_architecture_lists_every_package():
    named = "".join(re.findall(r"^\| (`.*?) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE))
    folders = [
        p.name for part in ("engine", "harness") for p in (ROOT / part).iterdir() if (p / "__init__.py").exists()
    ]
    assert [name for name in folders if not re.search(rf"\b{name}\b", named)] == []


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_named_for_contributors_exist(page):
    names = re.findall(r"`((?:engine|harness|chaos|tests|docs|recordings)/[\w./*-]+)`", (ROOT / page).read_text())
    assert len(names) > 10
    missing = [
        name for name in names if not list(ROOT.glob(re.sub(r"MODE|NAME", "*", name) + ("" if "." in name else "*")))
    ]
    assert missing == []


def test_import_directions_hold():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_commands_help_has_examples_and_exit_codes(name):
    page = CliRunner().invoke(main, [name, "--help"])
    assert page.exit_code == 0
    assert f"harness {name}" in page.output, "an example"
    assert CliRunner().invoke(main, [name, "-h"]).exit_code == 0, "-h works too"
    assert f"harness {name}" in "".join(p.read_text() for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_the_list_of_commands_fits_a_terminal():
    page = CliRunner().invoke(main, ["--help"], terminal_width=80)
    _usage, *lines = page.output.splitlines()
    assert [line for line in lines if len(line) > 80 or line.endswith("...")] == []


def test_the_wheel_holds_every_file_of_its_packages():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    held = {
        path for package, globs in data.items() for g in globs for path in (ROOT / package.replace(".", "/")).glob(g)
    }
    folders = ["engine", "harness", "chaos", "loadtests"]
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    left_out = [name for name in listed.stdout.split() if not name.endswith(".py") and ROOT / name not in held]
    assert left_out == []


def test_no_machine_or_registry_is_named():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = [ROOT / name for name in listed if not name.endswith((".jsonl", ".png", ".zst"))]
    words = ("/work" + "/", "--find" + "-links", "--index" + "-url")
    found = [p.name for p in texts if p.exists() and any(word in p.read_text(errors="replace") for word in words)]
    assert found == []
