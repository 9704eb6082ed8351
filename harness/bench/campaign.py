"""The output folder of a run: one file per measured row, so that an interrupted run can be continued."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from harness.bench.rows import BenchRow
from harness.bench.samples import Record
from harness.output import whole_file

FORMAT = 1
"""To be changed when records of older versions can no longer be read."""


class Campaign:
    """`identity` describes the measured version and the machine: records of another identity are not continued."""

    def __init__(self, folder: Path, identity: dict[str, Any], fresh: bool = False) -> None:
        self.folder, self._identity = folder, {"format": FORMAT, "boot": _boot(), **identity}
        self._rows, self._about = folder / "rows", folder / "run.json"
        if fresh or self._held() != {**self._identity, "done": False}:
            shutil.rmtree(self._rows, ignore_errors=True)
        self._rows.mkdir(parents=True, exist_ok=True)
        self._write(self._about, {**self._identity, "done": False})

    @property
    def recordings(self) -> Path:
        """Folder of the recordings, removed at the end of the run."""
        return self.folder / "recordings"

    def record(self, row: BenchRow) -> Record | None:
        """The row's record, if it has been measured."""
        try:
            return Record.from_json(json.loads(self._path(row).read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, record: Record) -> None:
        """Write a row's record."""
        self._write(self._path(record.row), record.as_json())

    def done(self) -> None:
        """To be called when all rows are measured: the next run starts from scratch."""
        self._write(self._about, {**self._identity, "done": True})
        shutil.rmtree(self.recordings, ignore_errors=True)

    def _path(self, row: BenchRow) -> Path:
        return self._rows / f"{row.id}.json"

    def _held(self) -> Any:
        try:
            return json.loads(self._about.read_text())
        except (OSError, ValueError):
            return None

    @staticmethod
    def _write(path: Path, value: dict[str, Any]) -> None:
        with whole_file(path) as file:
            file.write(json.dumps(value).encode() + b"\n")


def _boot() -> str:
    """Identifies this boot of this machine: figures of another one must not be combined with them."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename
