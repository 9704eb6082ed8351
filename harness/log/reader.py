"""Reads files and standard input; the format is detected by content.

Our JSONL is read line by line, without decoding manifests; kubectl's output is read as a whole, since it is one JSON
document (or several without separators).
"""

from __future__ import annotations

import bisect
import codecs
import hashlib
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import zstandard

from harness.log import kubectl
from harness.log.errors import RecordingError
from harness.log.events import FORMAT, VERSION, Event, Header
from harness.log.follow import WAITED, Follow
from harness.log.lines import LineDecoder, read_header
from harness.log.notes import note
from harness.log.window import Window

_PACKED = {b"\x1f\x8b": "gzip", b"PK\3\4": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


@dataclass
class Position:
    """Position in the last opened source, in bytes as stored; `of` is 0 if the length is unknown."""

    read: int = 0
    of: int = 0


_under_way = Position()


def position() -> Position:
    """The position in the last opened source, for progress displays."""
    return _under_way


def _begin(raw: io.FileIO) -> None:
    global _under_way
    status = os.fstat(raw.fileno())
    _under_way = Position(0, status.st_size if stat.S_ISREG(status.st_mode) else 0)


if TYPE_CHECKING:
    from typing_extensions import Buffer


class FileRecording:
    """A file or standard input as a `Recording`."""

    version: int | None = None

    def __init__(self, path: str, follow: Follow | None = None) -> None:
        self.path = path
        self._follow = follow
        self._runs: list[tuple[int, int]] = []  # (seq, line) where a run of consecutive seqs begins
        self._sha = hashlib.sha256()
        self._raw = _open(path)
        _begin(self._raw)
        try:
            self._lines = self._open_lines()
            first = next((line for line in self._lines if line is not WAITED), b"").removeprefix(codecs.BOM_UTF8)
            if not first.strip():
                raise RecordingError(path, 1, "the file is empty; a recording begins with a header line")
            self.header, self._events = self._identify(first)
        except BaseException:
            self._raw.close()
            raise

    def __enter__(self) -> FileRecording:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._raw.close()

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def take_window(self) -> Window:
        """The part given in the source's name; callers handle its start, its end is handled here."""
        return Window()

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes read so far, as stored."""
        return self._sha.hexdigest()

    def line_of(self, event: Event) -> int | None:
        """The line of an event already returned; None in kubectl's output, where events are not lines."""
        place = bisect.bisect_right(self._runs, (event.seq, sys.maxsize)) - 1
        return None if place < 0 else self._runs[place][1] + event.seq - self._runs[place][0]

    def error(self, event: Event, message: str) -> RecordingError:
        """An error about an event already returned, with its place."""
        return RecordingError(self.path, self.line_of(event) or f"seq {event.seq}", message)

    def _open_lines(self) -> Iterator[bytes]:
        tee = _Tee(self._raw, self._sha)
        buffered = io.BufferedReader(tee, 1 << 20)
        compressed = self.path.endswith(".zst") or buffered.peek(4)[:4] == b"\x28\xb5\x2f\xfd"
        try:
            if self._follow:
                lines = _whole_lines(_pieces(buffered, compressed, self._follow.wait))
                # Stopped in the middle of a line, which is not completely recorded yet.
                yield from (line for line in lines if line is WAITED or line[-1:] == b"\n")
            elif compressed:
                yield from _whole_lines(_pieces(buffered, compressed, None))
            else:
                yield from buffered
        except zstandard.ZstdError as error:
            raise RecordingError(self.path, None, f"not a complete zstd file: {error}") from None

    def _identify(self, first: bytes) -> tuple[Header, Iterator[Event]]:
        if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"{\0", b"\0{")):
            raise RecordingError(self.path, 1, "UTF-16 text, as PowerShell's > writes it: save it as UTF-8")
        if packed := next((name for magic, name in _PACKED.items() if first.startswith(magic)), None):
            raise RecordingError(self.path, 1, f"packed by {packed}: unpack it first; recordings are packed by zstd")
        try:
            decoded = msgspec.json.decode(first)
        except (msgspec.DecodeError, UnicodeDecodeError):
            decoded = None
        if isinstance(decoded, dict) and "format" in decoded:
            header, self.version = read_header(self.path, decoded)
            return header, self._read(self.version)
        if first.lstrip()[:1] == b"{":
            if isinstance(decoded, dict) and "seq" in decoded:
                raise RecordingError(self.path, 1, 'no header; the first line must be {"format":"' + FORMAT + '",...}')
            return Header(FORMAT, VERSION), kubectl.events(self.path, first + b"".join(self._lines), note)
        if re.match(rb"---|apiVersion:|kind:|items:|- ", first):
            raise RecordingError(self.path, 1, f"YAML; convert it with `harness import {self.path} dump.jsonl`")
        raise RecordingError(
            self.path,
            1,
            f"not a recording: starts with {first[:16]!r}; a header line or kubectl's JSON is needed",
        )

    def _read(self, version: int) -> Iterator[Event]:
        decoder, follow, number = LineDecoder(self.path, version), self._follow, 1
        self._runs.append((1, 2))
        for line in self._lines:
            if line is WAITED:
                if follow and (tick := follow.tick()):
                    yield tick
                continue
            number += 1
            seq = decoder.seq
            event = decoder.event(line, number)
            assert event, "repeats are skipped only in topics"
            if event.seq != seq + 1:
                self._runs.append((event.seq, number))
            if follow:
                follow.saw(event)
            yield event


def _pieces(stored: io.BufferedReader[_Tee], compressed: bool, wait: Callable[[], bool] | None) -> Iterator[bytes]:
    """The text in pieces, and WAITED after each wait at the end; ZstdError if a frame is incomplete."""
    frame = None
    while True:
        chunk = stored.read1(1 << 17)
        if not chunk:
            if wait is None or not wait():
                break
            yield WAITED
        elif not compressed:
            yield chunk
        while chunk and compressed:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            if piece := frame.decompress(chunk):
                yield piece
            chunk = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None and wait is None:
        raise zstandard.ZstdError("it ends in the middle of a frame")


def _whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Lines with their newlines, which the last one may lack. WAITED is passed through."""
    rest = b""
    for piece in pieces:
        if piece is WAITED:
            yield WAITED
            continue
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


class _Tee(io.RawIOBase):
    """Hashes the bytes read through it."""

    def __init__(self, raw: io.FileIO, sha: hashlib._Hash) -> None:
        self._inner, self._hash = raw, sha

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        count = self._inner.readinto(buffer) or 0
        self._hash.update(memoryview(buffer)[:count])
        _under_way.read += count
        return count


def _open(path: str) -> io.FileIO:
    if path == "-":
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    try:
        return open(path, "rb", buffering=0)
    except IsADirectoryError:
        raise RecordingError(path, None, "is a directory; give a recording in it") from None
    except OSError as error:
        raise RecordingError(path, None, f"cannot be read: {error.strerror}") from None
