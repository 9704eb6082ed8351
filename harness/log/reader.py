"""Opens a source, tells what it is by its content, and streams its events.

Our own JSONL is read line by line, manifests undecoded; kubectl's output is read whole, since it
is one JSON document (or several without separators).
"""

from __future__ import annotations

import bisect
import hashlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import zstandard

from harness.events import FORMAT, VERSION, Event, Header
from harness.recording import kubectl
from harness.recording.errors import RecordingError
from harness.recording.follow import Follow
from harness.recording.lines import LineDecoder, decode_header
from harness.recording.window import Window

WAITED = b""
"""Among the lines of a followed source: nothing came for a while."""


class Recording:
    """A context manager that iterates `Event`s once; `sha256` is complete after the last one."""

    def __init__(self, path: str, follow: Follow | None = None) -> None:
        self.path = path
        self._follow = follow
        self._runs: list[tuple[int, int]] = []  # (seq, line) where a run of consecutive seqs begins
        self._sha = hashlib.sha256()
        self._raw = _open(path)
        try:
            self._lines = self._open_lines()
            first = next((line for line in self._lines if line is not WAITED), b"")
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

    def take_window(self) -> Window:
        """The part that the source's name asks for; who takes it sees to its start, the end is seen to here."""
        return Window()

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
        compressed = self.path.endswith(".zst") or buffered.peek(4)[:4] == b"\x28\xb5\x2f\xfd"
        try:
            if self._follow:
                lines = _whole_lines(_pieces(buffered, compressed, self._follow.wait))
                # Told to stop in the middle of a line: what is there of it is not recorded yet.
                yield from (line for line in lines if line is WAITED or line[-1:] == b"\n")
            elif compressed:
                yield from _whole_lines(_pieces(buffered, compressed, None))
            else:
                yield from buffered
        except zstandard.ZstdError as error:
            raise RecordingError(self.path, None, f"not a whole zstd file: {error}") from None

    def _identify(self, first: bytes) -> tuple[Header, Iterator[Event]]:
        try:
            decoded = msgspec.json.decode(first)
        except (msgspec.DecodeError, UnicodeDecodeError):
            decoded = None
        self.own_format = isinstance(decoded, dict) and "format" in decoded
        if self.own_format:
            return decode_header(self.path, first, decoded), self._read()
        if first.lstrip()[:1] == b"{":
            if isinstance(decoded, dict) and "seq" in decoded:
                raise RecordingError(self.path, 1, 'no header; the first line must be {"format":"' + FORMAT + '",...}')
            return Header(FORMAT, VERSION), kubectl.events(self.path, first + b"".join(self._lines))
        raise RecordingError(
            self.path,
            1,
            f"not a recording: starts with {first[:16]!r}; a header line or kubectl's JSON is needed",
        )

    def _read(self) -> Iterator[Event]:
        decoder, follow, number = LineDecoder(self.path), self._follow, 1
        self._runs.append((1, 2))
        for line in self._lines:
            if line is WAITED:
                if tick := follow.tick():
                    yield tick
                continue
            number += 1
            seq = decoder.seq
            event = decoder.event(line, number)
            if event.seq != seq + 1:
                self._runs.append((event.seq, number))
            if follow:
                follow.saw(event)
            yield event


def _pieces(stored: io.BufferedReader, compressed: bool, wait: Callable[[], bool] | None) -> Iterator[bytes]:
    """The text in pieces, WAITED after each wait at the end; ZstdError unless every frame is whole."""
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
    """Lines with their newlines; the last one may lack it. Passes WAITED on."""
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


def open_source(path: str | Path, follow: Follow | None = None) -> Recording:
    """Open a recording, kubectl's JSON, `-`, or kafka://HOST:PORT/TOPIC; RecordingError when it is none of these.

    With `follow` it goes on as the source grows, until told to stop.
    """
    if str(path).startswith("kafka://"):
        from harness.kafka.source import KafkaRecording

        return KafkaRecording(str(path), follow)
    return Recording(str(path), follow)
