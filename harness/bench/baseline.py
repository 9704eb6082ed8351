"""The baseline of a run: another version of this package, another proxy of the same run, or a saved result."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import engine
from harness.exit_codes import EXIT_INPUT
from harness.failure import Failure
from harness.kube.proxy import OURS, Command

ASK_SECONDS = 60
_QUESTION = (
    "import sys; from importlib.metadata import version; import engine.proxier, harness.replay.kernels;"
    " print(version('kube-proxy-harness'), engine.proxier.__file__)"
)


class BaselineError(Failure, ValueError):
    """A baseline that cannot be used; the message names an alternative."""

    exit_code = EXIT_INPUT


class Python(NamedTuple):
    """A Python with a version of this package: how to start it, and the version."""

    words: tuple[str, ...]
    path: str | None = None
    about: str = ""

    def environment(self) -> Mapping[str, str]:
        """The environment of a process of this Python: it imports from `path`, or else only installed packages."""
        without = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return without | ({"PYTHONPATH": self.path} if self.path else {})

    def daemon(self) -> Command:
        """The command of its proxy-engine; -P, since the current folder may be another version's checkout."""
        variable = (f"PYTHONPATH={self.path}",) if self.path else ("-u", "PYTHONPATH")
        return Command(OURS.name, ("env", *variable, *self.words, "-P", *OURS.words[1:]))


class Baseline(NamedTuple):
    """The baseline; at most one of these is set."""

    python: Python | None = None
    proxy: str | None = None
    saved: Path | None = None

    @property
    def about(self) -> str:
        """Its name for tables; empty without a baseline."""
        return self.python.about if self.python else self.proxy or (self.saved.name if self.saved else "")


def this_python() -> Python:
    """The running Python, with the version that it has imported."""
    return Python((sys.executable,), str(Path(engine.__file__).resolve().parents[1]))


def baseline(text: str | None, proxies: Collection[str]) -> Baseline:
    """Parse the option; BaselineError if it is not a usable baseline."""
    if text is None:
        return Baseline()
    if text in proxies:
        return Baseline(proxy=text)
    path = Path(text)
    if path.is_file() and path.suffix == ".json":
        return Baseline(saved=path)
    return Baseline(python=_asked(text, _python(text, path)))


def _python(text: str, path: Path) -> Python:
    if path.is_dir():
        installed = next((p for p in (path / "bin/python", path / ".venv/bin/python") if p.exists()), None)
        checkout = str(path.resolve()) if (path / "engine").is_dir() and (path / "harness").is_dir() else None
        if not installed and not checkout:
            raise BaselineError(
                f"{text}: neither a checkout (engine/, harness/) nor a virtual environment (bin/python)"
            )
        return Python((str(installed.absolute()) if installed else sys.executable,), checkout)
    words = tuple(shlex.split(text))
    if not words or not shutil.which(words[0]):
        raise BaselineError(f"{text}: not a directory, a result (.json), a proxy of --external, or a command")
    return Python(words)


def _asked(text: str, python: Python) -> Python:
    """Add the version that it reports."""
    try:
        done = subprocess.run(
            [*python.words, "-P", "-c", _QUESTION],
            env=python.environment(), capture_output=True, text=True, timeout=ASK_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BaselineError(f"{text}: it does not run: {error}") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BaselineError(f"{text}: its Python does not have this package: {said}")
    version, _, file = done.stdout.strip().partition(" ")
    if python.path and not file.startswith(python.path):
        raise BaselineError(f"{text}: its Python imports {file} instead")
    return python._replace(about=f"{version} in {text}")
