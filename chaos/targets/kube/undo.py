"""The run's heal file: saves each state before it is changed.

    {"kind": "header", "server", "context", "kubeconfig", "in_cluster"}
    {"kind": "did", "key": "node node-2", "undo": {...}}      on disk before the request is sent
    {"kind": "undone", "key": "node node-2"}

A killed run leaves open entries, from which everything can be restored.  Restoring twice, or restoring a change that
was never made, has no effect.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

FILE = "heal.jsonl"


class HealError(ValueError):
    """The heal file is missing or unreadable; the message names the file and the reason."""


class Undo(msgspec.Struct, frozen=True):
    """How to undo one change: `kind` is node, scale, condition or exec; `target.put_back` does it."""

    key: str
    kind: str
    values: dict[str, Any]


class UndoHeader(msgspec.Struct, frozen=True):
    """The cluster that the changes were made on."""

    server: str
    context: str = ""
    kubeconfig: str | None = None
    in_cluster: bool = False


class HealFile:
    """Appends to the file; `open` holds the changes that are not yet undone, oldest first."""

    def __init__(self, folder: Path, header: UndoHeader) -> None:
        """A new file, or an existing one continued; HealError if it belongs to another cluster."""
        self.path = folder / FILE
        self.open: dict[str, Undo] = {}
        if self.path.exists():
            there, self.open = read_heal_file(folder)
            if there.server != header.server:
                raise HealError(f"{self.path}: belongs to {there.server}, not {header.server}")
        self._file = self.path.open("ab")
        if not self._file.tell():
            self._write({"kind": "header", **msgspec.to_builtins(header)})

    def before(self, undo: Undo) -> None:
        """Save the previous state; for several changes of one object, that before the first."""
        if undo.key not in self.open:
            self._write({"kind": "did", "key": undo.key, "undo": undo})
            self.open[undo.key] = undo

    def undone(self, key: str) -> None:
        """Mark a change as undone."""
        if self.open.pop(key, None):
            self._write({"kind": "undone", "key": key})

    def close(self) -> None:
        """Close the file, which is kept."""
        self._file.close()

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(msgspec.json.encode(row) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_heal_file(folder: Path) -> tuple[UndoHeader, dict[str, Undo]]:
    """The cluster and the open changes recorded in a run's folder; HealError."""
    path = folder / FILE
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise HealError(f"{path}: {error.strerror}; expected the folder of a run with --target kube") from None
    header, left = None, {}
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            break  # truncated while being written: its change was not yet requested
        try:
            row = msgspec.json.decode(line)
            kind = row.pop("kind")
            if kind == "header":
                header = msgspec.convert(row, UndoHeader)
            elif kind == "did":
                left[row["key"]] = msgspec.convert(row["undo"], Undo)
            else:
                left.pop(row["key"], None)
        except (msgspec.MsgspecError, KeyError, AttributeError) as error:
            raise HealError(f"{path}:{number}: {error}") from None
    if header is None:
        raise HealError(f"{path}: does not name its cluster")
    return header, left
