"""Facts about a run: the machine, its kernel, the tools, and the measured version."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import engine
from harness.bench.result import BenchMachine

TOOLS = ("nft", "iptables", "ipvsadm")
ROOT = Path(engine.__file__).resolve().parent
SECONDS = 20


class BenchFacts(NamedTuple):
    """The machine, the kernel's release, versions of tools, and the measured commit, None for a package."""

    machine: BenchMachine
    kernel: str
    tools: dict[str, str]
    commit: str | None


def facts() -> BenchFacts:
    """The current facts."""
    return BenchFacts(_machine(), platform.release(), _tools(), commit())


def _machine() -> BenchMachine:
    return BenchMachine(
        _cpu(),
        len(os.sched_getaffinity(0)),
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        round(os.getloadavg()[0], 2),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _tools() -> dict[str, str]:
    try:
        own = version("kube-proxy-harness")
    except PackageNotFoundError:
        own = "unknown"
    found = {"kube-proxy-harness": own, "python": platform.python_version()}
    paths = {name: shutil.which(name) for name in TOOLS}
    return found | {name: _version(name, path) for name, path in paths.items() if path}


def _version(tool: str, path: str) -> str:
    said = _said([path, "--version"]) or _written(tool, path)
    found = re.search(r"v?(\d+(\.\d+)+)( \([^)]*\))?", said)
    return found[0] if found else "unknown"


def _written(tool: str, path: str) -> str:
    """The version's text in the program's file: `ipvsadm` prints nothing where the kernel has no IP_VS."""
    try:
        found = re.search(rb"\b%b v\d+(\.\d+)+" % re.escape(tool).encode(), Path(path).read_bytes())
    except OSError:
        found = None
    return found[0].decode() if found else ""


def _said(command: list[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def commit() -> str | None:
    """The checkout's commit, with `+` if files differ from it; None for an installed package."""
    if not (ROOT.parent / ".git").exists():
        return None
    found = _said(["git", "rev-parse", "--short=12", "HEAD"], ROOT.parent)
    changed = _said(["git", "status", "--porcelain", "--untracked-files=no", "engine", "harness"], ROOT.parent)
    return f"{found}{'+' if changed else ''}" if found else None


def digest() -> str:
    """Digest of the engine's source: an interrupted run is continued only with the same one."""
    found = hashlib.sha256()
    for path in sorted(ROOT.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
