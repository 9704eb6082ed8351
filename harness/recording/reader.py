"""Opens a source, tells what it is by its content, and streams its events.

Our own JSONL is read line by line, manifests undecoded; kubectl's output is read whole, since it
is one JSON document (or several without separators).
"""

from __future__ import annotations

import bisect
import hashlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import zstandard

from harness.events import FORMAT, MARKER_TYPES, OBJECT_TYPES, RESOURCES, VERSION, Event, Header
from harness.recording import kubectl
from harness.recording.errors import RecordingError

_decode_event = msgspec.json.Decoder(Event).decode
_decode_header = msgspec.json.Decoder(Header).decode
_TYPES = frozenset(OBJECT_TYPES + MARKER_TYPES)
_RESOURCES = frozenset(RESOURCES)


class Recording:
    """A context manager that iterates `Event`s once; `sha256` is complete after the last one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._runs: list[tuple[int, int]] = []  # (seq, line) where a run of consecutive seqs begins
        self._sha = hashlib.sha256()
        self._raw = _open(path)
        try:
            self._lines = self._open_lines()
            first = next(self._lines, b"")
            if not first.strip():
                raise RecordingError(path, 1, "the file is empty; a recording begins with a header line")
            self.header, self._events = self._identify(first)
        except BaseException:
            self._raw.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_exception) -> None:
        self._raw.close()

    def __iter__(self) -> Iterator[Event]:
        return self._events

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes read so far, as stored."""
        return self._sha.hexdigest()

    def line_of(self, event: Event) -> int | None:
        """The line of an event already given; None in kubectl's output, where an event is no line."""
        place = bisect.bisect_right(self._runs, (event.seq, sys.maxsize)) - 1
        return None if place < 0 else self._runs[place][1] + event.seq - self._runs[place][0]

    def error(self, event: Event, message: str) -> RecordingError:
        """What is wrong with an event already given, with its place."""
        return RecordingError(self.path, self.line_of(event) or f"seq {event.seq}", message)

    def _open_lines(self) -> Iterator[bytes]:
        tee = _Tee(self._raw, self._sha)
        buffered = io.BufferedReader(tee, 1 << 20)
        if self.path.endswith(".zst") or buffered.peek(4)[:4] == b"\x28\xb5\x2f\xfd":
            buffered = _decompressed_lines(buffered)
        try:
            yield from buffered
        except zstandard.ZstdError as error:
            raise RecordingError(self.path, None, f"not a whole zstd file: {error}") from None

    def _identify(self, first: bytes) -> tuple[Header, Iterator[Event]]:
        try:
            decoded = msgspec.json.decode(first)
        except (msgspec.DecodeError, UnicodeDecodeError):
            decoded = None
        if isinstance(decoded, dict) and "format" in decoded:
            return self._header(first, decoded), self._read()
        if first.lstrip()[:1] == b"{":
            if isinstance(decoded, dict) and "seq" in decoded:
                raise RecordingError(self.path, 1, 'no header; the first line must be {"format":"' + FORMAT + '",...}')
            return Header(FORMAT, VERSION), kubectl.events(self.path, first + b"".join(self._lines))
        raise RecordingError(
            self.path,
            1,
            f"not a recording: starts with {first[:16]!r}; a header line or kubectl's JSON is needed",
        )

    def _header(self, line: bytes, decoded: dict) -> Header:
        if decoded["format"] != FORMAT:
            raise RecordingError(self.path, 1, f"format is {decoded['format']!r}; {FORMAT!r} is needed")
        version = decoded.get("version")
        if type(version) is not int or version < 1:
            raise RecordingError(self.path, 1, f"version is {version!r}; an integer from 1 to {VERSION} is needed")
        if version > VERSION:
            raise RecordingError(
                self.path,
                1,
                f"version {version} was written by a newer harness; this one reads up to {VERSION}: upgrade",
            )
        try:
            return _decode_header(line)
        except msgspec.DecodeError as error:
            raise RecordingError(self.path, 1, f"bad header: {error}") from None

    def _read(self) -> Iterator[Event]:
        seq, t = 0, 0
        self._runs.append((1, 2))
        for number, line in enumerate(self._lines, 2):
            try:
                event = _decode_event(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise RecordingError(self.path, number, _why_undecodable(line, error)) from None
            if event.seq <= seq or event.t < t or event.type not in _TYPES or event.resource not in _RESOURCES:
                raise RecordingError(self.path, number, _why_wrong(event, seq, t))
            if event.type in OBJECT_TYPES and memoryview(event.object)[:1] != b"{":
                raise RecordingError(self.path, number, f"{event.type} without an object; a manifest is needed")
            if line[-1:] != b"\n":
                raise RecordingError(self.path, number, "the last line is cut off; a line ends with a newline")
            if event.seq != seq + 1:
                self._runs.append((event.seq, number))
            seq, t = event.seq, event.t
            yield event


def _decompressed_lines(compressed: io.BufferedReader) -> Iterator[bytes]:
    """Lines of any number of frames, each of which must be whole; ZstdError otherwise."""
    rest, frame = b"", None
    while chunk := compressed.read1(1 << 17):
        while chunk:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            lines = (rest + frame.decompress(chunk)).splitlines(keepends=True)
            rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
            yield from lines
            chunk = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        raise zstandard.ZstdError("it ends in the middle of a frame")
    if rest:
        yield rest


class _Tee(io.RawIOBase):
    """Hashes what is read through it."""

    def __init__(self, raw, sha) -> None:
        self._inner, self._hash = raw, sha

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._inner.readinto(buffer)
        self._hash.update(memoryview(buffer)[:count])
        return count


def _open(path: str):
    if path == "-":
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    try:
        return open(path, "rb", buffering=0)
    except IsADirectoryError:
        raise RecordingError(path, None, "is a directory; name a recording in it") from None
    except OSError as error:
        raise RecordingError(path, None, f"cannot be read: {error.strerror}") from None


def open_source(path: str | Path) -> Recording:
    """Open a recording, kubectl's JSON, or `-`; RecordingError when it is none of these."""
    return Recording(str(path))


def _why_undecodable(line: bytes, error: Exception) -> str:
    if line[-1:] != b"\n":
        return "the last line is cut off; the recording was not closed, cut this line to use the rest"
    return f"not an event: {error}; one JSON object with seq, t, type, resource, object is needed"


def _why_wrong(event: Event, seq: int, t: int) -> str:
    if event.seq <= seq:
        return f"seq {event.seq} after {seq}; seq must rise"
    if event.t < t:
        return f"t {event.t} after {t}; t must not fall (nanoseconds since the start)"
    if event.type not in _TYPES:
        return f"unknown type {event.type!r}; one of {', '.join(OBJECT_TYPES + MARKER_TYPES)} is needed"
    return f"unknown resource {event.resource!r}; one of {', '.join(RESOURCES)} is needed"
