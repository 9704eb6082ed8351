"""Watches: from a request to the frames of its stream.

`WatchStream` decides (events, bookmarks, end) without I/O; `stream` is the thin shell that waits for the
collection's bell, writes, and handles timeouts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import NamedTuple

from harness.apiserver import errors, wire
from harness.apiserver.listing import number
from harness.apiserver.scope import Scope
from harness.apiserver.store import Collection, Cursor
from harness.kube.resources import Kind

TIMEOUT_SECONDS = 3600
"""Timeout of a watch whose client sets none; as with the real server, clients watch again."""

BATCH = 128
"""Changes written at a time: bounds, with the socket's buffer, what is pending for one watcher."""


class WatchRequest(NamedTuple):
    """`since` None or 0 begins with the current state, as does `initial_events`."""

    since: int | None = None
    bookmarks: bool = False
    initial_events: bool | None = None
    timeout: float = TIMEOUT_SECONDS


def watch_request_of(kind: Kind, query: Mapping[str, str]) -> WatchRequest:
    """The watch request in a query; StatusError 400 or 422 if invalid."""
    since = number("resourceVersion", query.get("resourceVersion", ""))
    initial, match = _flag(query.get("sendInitialEvents")), query.get("resourceVersionMatch", "")
    causes = []
    if initial is not None and match != "NotOlderThan":
        why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        causes.append(errors.Cause("resourceVersionMatch", why))
    if initial is None and match:
        why = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        causes.append(errors.Cause("resourceVersionMatch", why))
    if causes:
        raise errors.invalid(kind, "", causes)
    timeout = number("timeoutSeconds", query.get("timeoutSeconds", "")) or TIMEOUT_SECONDS
    return WatchRequest(since, bool(_flag(query.get("allowWatchBookmarks"))), initial, timeout)


class WatchStream:
    """One watch: yields frames; after an ERROR frame it is `ended`."""

    def __init__(self, collection: Collection, scope: Scope, request: WatchRequest, form: wire.Form) -> None:
        self._collection, self._scope, self._request, self._form = collection, scope, request, form
        self._cursor: Cursor | None = None
        self._first = True
        self.ended = False

    @property
    def _reading(self) -> Cursor:
        assert self._cursor, "`opening` comes first"
        return self._cursor

    def opening(self) -> Iterator[bytes]:
        """Frames of the current state, if requested, followed by its bookmark."""
        request, collection = self._request, self._collection
        initial = request.initial_events if request.initial_events is not None else not request.since
        try:
            if not initial:
                since = collection.revision if not request.since else request.since
                self._cursor = collection.cursor(since)
                return
            snapshot = collection.snapshot()
            if request.since and request.since > snapshot.revision:
                raise errors.too_new(request.since, snapshot.revision)
            self._cursor = collection.cursor(snapshot.revision)
        except errors.StatusError as error:
            yield self._fail(error)
            return
        for found in snapshot.objects:
            if self._scope.sees(found):
                yield wire.event("ADDED", found, self._form, self._take_first())
        if request.initial_events and request.bookmarks:
            yield wire.bookmark(collection.kind, snapshot.revision, self._form, initial_end=True)

    def pending(self) -> list[bytes]:
        """Frames of the next changes in scope, if any."""
        frames: list[bytes] = []
        while not frames and not self.ended:
            try:
                changes = self._reading.take(BATCH)
            except errors.StatusError as error:
                return [self._fail(error)]
            if not changes:
                break
            for change in changes:
                type = self._scope.view(change)
                # For a future resourceVersion, changes up to it are skipped.
                if type and change.revision > (self._request.since or 0):
                    frames.append(wire.frame(change, type, self._form, self._take_first()))
        return frames

    def bookmark(self) -> bytes:
        """A bookmark with this watch's position; empty if the client does not allow bookmarks."""
        if not self._request.bookmarks or self.ended:
            return b""
        return wire.bookmark(self._collection.kind, self._reading.revision, self._form)

    def _take_first(self) -> bool:
        first, self._first = self._first, False
        return first

    def _fail(self, error: errors.StatusError) -> bytes:
        self.ended = True
        return wire.failure(error)


class Bell:
    """Wakes all waiters of a collection; `ring` may be called from any thread, and is cheap if pending."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._event, self._pending = loop, asyncio.Event(), False

    def ring(self) -> None:
        """Wake the waiters soon."""
        if not self._pending:
            self._pending = True
            self._loop.call_soon_threadsafe(self._wake)

    def armed(self) -> asyncio.Event:
        """The event set by the next ring: get it before checking for changes, wait on it afterwards."""
        return self._event

    def _wake(self) -> None:
        self._pending = False
        event, self._event = self._event, asyncio.Event()
        event.set()


class Pace(NamedTuple):
    """Timeout and bookmark interval of a stream in seconds, and whether the server is closing."""

    timeout: float
    bookmark_every: float
    closing: Callable[[], bool]


async def stream(watcher: WatchStream, bell: Bell, write: Callable[[bytes], Awaitable[None]], pace: Pace) -> None:
    """Write the watch until it ends: by timeout (with a last bookmark), an ERROR, or the server's shutdown."""
    clock = asyncio.get_running_loop().time
    end, next_bookmark = clock() + pace.timeout, clock() + pace.bookmark_every
    for batch in _batches(watcher.opening()):
        await write(batch)
    while not watcher.ended and clock() < end and not pace.closing():
        armed = bell.armed()
        if frames := watcher.pending():
            await write(b"".join(frames))
            continue
        if clock() >= next_bookmark:
            next_bookmark += pace.bookmark_every
            await _write(write, watcher.bookmark())
        await _wait(armed, min(end, next_bookmark) - clock())
    await _write(write, watcher.bookmark())


async def _write(write: Callable[[bytes], Awaitable[None]], frame: bytes) -> None:
    if frame:
        await write(frame)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(seconds, 0)):
            await event.wait()
    except TimeoutError:
        pass


def _batches(frames: Iterator[bytes]) -> Iterator[bytes]:
    batch: list[bytes] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) >= BATCH:
            yield b"".join(batch)
            batch = []
    if batch:
        yield b"".join(batch)


def _flag(text: str | None) -> bool | None:
    if text is None or text == "":
        return None
    if text.lower() in ("1", "t", "true"):
        return True
    if text.lower() in ("0", "f", "false"):
        return False
    raise errors.bad_request(f'strconv.ParseBool: parsing "{text}": invalid syntax')
