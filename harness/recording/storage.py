"""Bytes of a source as they are stored: opened, hashed and, for zstd, decompressed, in chunks."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from typing import BinaryIO

import zstandard

from harness.recording.errors import RecordingError

CHUNK = 1 << 20
"""Bytes read at once: large enough that per-chunk Python is noise, small enough to stay in cache."""

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
STDIN = "-"


class Storage:
    """A source's bytes, read once. `path` may be `-` for standard input.

    Raises RecordingError when it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._hash = hashlib.sha256()
        self._finished = False
        self._file = _open(path)

    @property
    def sha256(self) -> str:
        """Hex digest of the bytes as stored; RuntimeError before all of them are read."""
        if not self._finished:
            raise RuntimeError("the SHA-256 is known only once all events are read")
        return self._hash.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        """Decompressed contents, in pieces of about CHUNK bytes; RecordingError for broken zstd."""
        first = self._read()
        if self.path.endswith(".zst") or first.startswith(ZSTD_MAGIC):
            yield from self._decompressed(first)
            return
        while first:
            yield first
            first = self._read()

    def close(self) -> None:
        """Close the file; standard input stays open, as it is not ours."""
        if self.path != STDIN:
            self._file.close()

    def _read(self) -> bytes:
        try:
            data = self._file.read(CHUNK)
        except OSError as error:
            raise RecordingError(self.path, 0, f"cannot be read: {error.strerror}; check the disk") from error
        self._hash.update(data)
        self._finished = not data
        return data

    def _decompressed(self, data: bytes) -> Iterator[bytes]:
        """Contents of consecutive zstd frames, the first of them starting with `data`."""
        frame = _frame()
        fed = False
        while data:
            if frame.eof:
                frame, fed = _frame(), False
            try:
                text = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise self._broken(f"is not valid zstd ({error})") from error
            fed = True
            yield from _pieces(text)
            data = frame.unused_data if frame.eof else b""
            data = data or self._read()
        # The library takes a frame cut short for its end, so the reader has to look.
        if fed and not frame.eof:
            raise self._broken("is zstd cut short")

    def _broken(self, what: str) -> RecordingError:
        return RecordingError(self.path, 0, f"{what}; compress it again from the original with `zstd`")


def _frame() -> zstandard.ZstdDecompressionObj:
    return zstandard.ZstdDecompressor().decompressobj()


def _pieces(text: bytes) -> Iterator[bytes]:
    """`text` in chunks: a megabyte of zstd may hold hundreds of megabytes of JSON."""
    for start in range(0, len(text), CHUNK):
        yield text[start : start + CHUNK]


def _open(path: str) -> BinaryIO:
    """The file, or standard input; RecordingError when missing, a directory, or not permitted."""
    if path == STDIN:
        return sys.stdin.buffer
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError as error:
        raise RecordingError(path, 0, "no such file; give a recording's path, or - for standard input") from error
    except IsADirectoryError as error:
        raise RecordingError(path, 0, "is a directory; give one recording inside it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecordingError(path, 0, f"cannot be opened: {reason}; give a readable file") from error
