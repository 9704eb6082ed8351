"""The output folder of a run: one file per measured row, so that an interrupted run can be continued."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from harness.bench.rows import BenchRow
from harness.bench.samples import Record
from harness.output import whole_file

FORMAT = 1
"""To be changed when records of older versions can no longer be read."""


def _boot() -> str:
    """Identifies this boot of this machine: figures of another one must not be combined with them."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename


class CampaignIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """The measured version, its options, and the machine: records of another identity are not continued."""

    format: int = FORMAT
    boot: str = msgspec.field(default_factory=_boot)
    engine: str
    baseline: str
    starts: int | None
    commands: dict[str, list[str]]
    done: bool = False


class Campaign:
    """The records of one identity."""

    def __init__(self, folder: Path, identity: CampaignIdentity, fresh: bool = False) -> None:
        self.folder, self._identity = folder, identity
        self._rows, self._about = folder / "rows", folder / "run.json"
        if fresh or self._held() != identity:
            shutil.rmtree(self._rows, ignore_errors=True)
        self._rows.mkdir(parents=True, exist_ok=True)
        self._write(self._about, identity)

    @property
    def recordings(self) -> Path:
        """Folder of the recordings, removed at the end of the run."""
        return self.folder / "recordings"

    def record(self, row: BenchRow) -> Record | None:
        """The row's record, if it has been measured."""
        try:
            return msgspec.json.decode(self._path(row).read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None

    def keep(self, record: Record) -> None:
        """Write a row's record."""
        self._write(self._path(record.row), record)

    def done(self) -> None:
        """To be called when all rows are measured: the next run starts from scratch."""
        self._write(self._about, msgspec.structs.replace(self._identity, done=True))
        shutil.rmtree(self.recordings, ignore_errors=True)

    def _path(self, row: BenchRow) -> Path:
        return self._rows / f"{row.id}.json"

    def _held(self) -> CampaignIdentity | None:
        try:
            return msgspec.json.decode(self._about.read_bytes(), type=CampaignIdentity)
        except (OSError, msgspec.MsgspecError):
            return None

    @staticmethod
    def _write(path: Path, value: CampaignIdentity | Record) -> None:
        with whole_file(path) as file:
            file.write(msgspec.json.encode(value) + b"\n")
