"""The interface of all event sources (files, standard input, kubectl's output, topics), and how to open one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self

from harness.log.errors import RecordingError
from harness.log.events import Event, Header
from harness.log.follow import Follow
from harness.log.reader import FileRecording
from harness.log.window import Window


class Recording(Protocol):
    """A context manager that iterates `Event`s once; `sha256` is complete after the last one."""

    path: str
    header: Header

    def __enter__(self) -> Self: ...

    def __exit__(self, *_exception: object) -> None: ...

    def __iter__(self) -> Iterator[Event]: ...

    def take_window(self) -> Window:
        """The part given in the source's name; callers handle its start, its end is handled by the source."""

    @property
    def version(self) -> int | None:
        """The version of the stored format, None for kubectl's output; `header` and events are always current."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the data read so far, equal to that of the same .jsonl file."""

    def line_of(self, event: Event) -> int | None:
        """The line of an event already returned; None if events are not lines."""

    def error(self, event: Event, message: str) -> RecordingError:
        """An error about an event already returned, with its place."""


def open_source(path: str | Path, follow: Follow | None = None) -> Recording:
    """Open a recording, kubectl's JSON, `-`, or kafka://HOST:PORT/TOPIC; RecordingError for anything else.

    With `follow`, reading continues as the source grows, until stopped.
    """
    if str(path).startswith("kafka://"):
        from harness.log.kafka.source import KafkaRecording  # the client is an extra

        return KafkaRecording(str(path), follow)
    return FileRecording(str(path), follow)
