"""What was, written down before it is changed: the run's heal file.

    {"kind": "header", "server", "context", "kubeconfig", "in_cluster"}
    {"kind": "did", "key": "node node-2", "undo": {...}}      on the disk before the request is sent
    {"kind": "undone", "key": "node node-2"}

A run that was killed leaves entries open; whoever reads the file can put everything back.  Putting back twice, or
what was never done, changes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

FILE = "heal.jsonl"


class HealError(ValueError):
    """No heal file, or none that can be read; the message says which and why."""


class Undo(msgspec.Struct, frozen=True):
    """How one change is taken back: `kind` is node, scale, condition or exec; `target.put_back` does it."""

    key: str
    kind: str
    values: dict[str, Any]


class Header(msgspec.Struct, frozen=True):
    """Which cluster it is about."""

    server: str
    context: str = ""
    kubeconfig: str | None = None
    in_cluster: bool = False


class HealFile:
    """Appends to the file; `open` are the changes that have not been taken back, the oldest first."""

    def __init__(self, folder: Path, header: Header) -> None:
        """A new one, or the one that is there gone on with; HealError when it is another cluster's."""
        self.path, self.open = folder / FILE, {}
        if self.path.exists():
            there, self.open = read_heal_file(folder)
            if there.server != header.server:
                raise HealError(f"{self.path}: is about {there.server}, not {header.server}")
        self._file = open(self.path, "ab")
        if not self._file.tell():
            self._write({"kind": "header", **msgspec.to_builtins(header)})

    def before(self, undo: Undo) -> None:
        """Write down what was. Of several changes of one thing the first says what was."""
        if undo.key not in self.open:
            self._write({"kind": "did", "key": undo.key, "undo": undo})
            self.open[undo.key] = undo

    def undone(self, key: str) -> None:
        """It is as it was."""
        if self.open.pop(key, None):
            self._write({"kind": "undone", "key": key})

    def close(self) -> None:
        """The file stays."""
        self._file.close()

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(msgspec.json.encode(row) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_heal_file(folder: Path) -> tuple[Header, dict[str, Undo]]:
    """The cluster and the open changes of a run's folder; HealError."""
    path = folder / FILE
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise HealError(f"{path}: {error.strerror}; a folder of a run with --target kube is needed") from None
    header, left = None, {}
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            break  # cut off while it was written: the change it was about was not yet asked for
        try:
            row = msgspec.json.decode(line)
            kind = row.pop("kind")
            if kind == "header":
                header = msgspec.convert(row, Header)
            elif kind == "did":
                left[row["key"]] = msgspec.convert(row["undo"], Undo)
            else:
                left.pop(row["key"], None)
        except (msgspec.MsgspecError, KeyError, AttributeError) as error:
            raise HealError(f"{path}:{number}: {error}") from None
    if header is None:
        raise HealError(f"{path}: does not say which cluster it is about")
    return header, left
