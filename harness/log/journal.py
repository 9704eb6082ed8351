"""A recording being written: appended to, flushed to disk, and continued after any kind of end.

Events flushed successfully survive a kill and a power cut.  An incomplete line or zstd frame left by a kill was never
acknowledged: it is removed when the recording is continued.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import zstandard

from harness import handover
from harness.log.errors import RecordingError
from harness.log.events import FORMAT, Event, Header
from harness.log.lines import event_line, header_line
from harness.log.source import open_source
from harness.log.versions import require_own_version

_BEGINNING = b'{"format":"' + FORMAT.encode() + b'"'
_MAGIC = b"\x28\xb5\x2f\xfd"
LEVEL = 3
"""zstd level: a recorder must keep up, and every flush is a separate frame."""


class LogFile:
    """One file, owned by one writer. `seq` is the last event appended, `durable` the last one flushed."""

    def __init__(self, path: str | Path, sync: bool = True) -> None:
        """Open or create; RecordingError if it cannot be written or another process is writing it.

        Without `sync`, a flush only passes the data to the operating system: it survives this process, but not a
        power cut.
        """
        self.path, self._sync = str(path), sync
        self._compressed = self.path.endswith(".zst")
        self._buffer: list[bytes] = []
        self.size, self.buffered, self.cut = 0, 0, 0
        self.seq = self.durable = 0
        self.header: Header | None = None
        try:
            self._file = open(self.path, "a+b", buffering=0)
            handover.lock(self._file)
        except BlockingIOError:
            self._file.close()
            raise RecordingError(self.path, None, "is being written by another process; stop that one first") from None
        except OSError as error:
            raise RecordingError(self.path, None, f"cannot be written: {error.strerror}") from None
        try:
            self._repair()
        except BaseException:
            self._file.close()
            raise

    @property
    def empty(self) -> bool:
        """Whether the file is empty, without even a header."""
        return self.size == 0 and not self._buffer

    def begin(self, header: Header) -> None:
        """Write the header of a new recording, durably."""
        self.header = header
        self._buffer.append(header_line(header))
        self.flush()
        folder = os.open(Path(self.path).parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def resume(self, seq: int) -> None:
        """Continue after the last event, which has number `seq`."""
        self.seq = self.durable = seq

    def append(self, event: Event) -> None:
        """Append one event; it is not durable before `flush`."""
        line = event_line(event)
        self._buffer.append(line)
        self.buffered += len(line)
        self.seq = event.seq

    def flush(self) -> int:
        """Write and sync appended events; returns the last durable seq. OSError if the disk is full."""
        if self._buffer:
            data = b"".join(self._buffer)
            if self._compressed:
                data = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(data)
            self._write(data)
            self._buffer.clear()
            self.buffered = 0
        self.durable = self.seq
        return self.durable

    def close(self) -> None:
        """Flush and close the file."""
        try:
            self.flush()
        finally:
            self._file.close()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError:
            self._file.truncate(self.size)  # remove the incomplete flush
            raise
        if self._sync:
            os.fsync(self._file.fileno())
        self.size += len(data)

    def _repair(self) -> None:
        self._file.seek(0)
        whole = _end_of_frames(self._file) if self._compressed else _end_of_lines(self._file)
        self.cut = self._file.seek(0, os.SEEK_END) - whole
        self._identify(whole)
        if self.cut:
            self._file.truncate(whole)
            os.fsync(self._file.fileno())
        self.size = whole

    def _identify(self, whole: int) -> None:
        """Set `header`; RecordingError, without changing the file, if it is not a recording."""
        if whole:
            with open_source(self.path) as recording:
                if recording.version is not None:
                    require_own_version(self.path, recording.version)
                    self.header = recording.header
        self._file.seek(0)
        start = self._file.read(len(_MAGIC) if self._compressed else len(_BEGINNING))
        expected = _MAGIC if self._compressed else _BEGINNING
        if self.header is None if whole else not expected.startswith(start):
            raise RecordingError(self.path, None, "is not a recording; it is not changed, choose another file")


def _end_of_lines(file: BinaryIO) -> int:
    """Offset after the last newline."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - (1 << 16))
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _end_of_frames(file: BinaryIO) -> int:
    """Offset after the last complete frame; RecordingError if the file is not in zstd format."""
    whole, read, frame = 0, 0, None
    while chunk := file.read(1 << 17):
        read += len(chunk)
        while chunk:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                frame.decompress(chunk)
            except zstandard.ZstdError as error:
                raise RecordingError(file.name, None, f"not a zstd file: {error}; it is not changed") from None
            chunk = frame.unused_data
            if frame.eof:
                whole, frame = read - len(chunk), None
    return whole
