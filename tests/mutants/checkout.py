"""A private copy of engine/ with one bug in it, in a temporary folder; the checkout itself is never touched.

Commands run in that folder with it first on the path, so that every process they start imports the copy.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import cache_from_source
from pathlib import Path
from typing import NamedTuple

from tests.mutants.catalogue import ROOT, Mutant, edited


class Interrupted(Exception):
    """The whole run is being ended; this command's result is meaningless."""


_running: set[subprocess.Popen[bytes]] = set()
_interrupted = threading.Event()


def end_all() -> None:
    """End every command that runs, in whatever thread; their `run` raises Interrupted, and so do later ones."""
    _interrupted.set()
    for process in list(_running):
        _end(process)


class Done(NamedTuple):
    """How a command ended; `code` None: it was killed after its bound."""

    code: int | None
    output: str
    seconds: float


@contextmanager
def private_copy(mutant: Mutant | None) -> Iterator[Path]:
    """The folder, gone afterwards; None is the engine as it is. CatalogueError when the bug does not fit."""
    texts = edited(mutant) if mutant else {}
    with tempfile.TemporaryDirectory(prefix="harness-mutant-") as name:
        folder = Path(name)
        # With its bytecode, which stays valid as the files keep their times: a command would compile all of it.
        shutil.copytree(ROOT / "engine", folder / "engine")
        for file, text in texts.items():
            Path(cache_from_source(folder / file)).unlink(missing_ok=True)
            (folder / file).write_text(text)
        yield folder


def run(folder: Path, words: list[str], limit_seconds: float) -> Done:
    """`python WORDS` in the copy, with everything that it starts ended after the bound."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _running.add(process)
        try:
            code = process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
            _running.discard(process)
        if _interrupted.is_set():
            raise Interrupted
        output.seek(0)
        return Done(code, output.read().decode(errors="replace"), time.monotonic() - started)


def _end(process: subprocess.Popen[bytes]) -> None:
    """What is left of its group; at first as a terminal would, so that it can clean up."""
    for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
