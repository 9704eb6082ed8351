"""A thread that lists and watches one scope and queues messages for the recorder; `recovery` has the rules."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from harness.kube.client import ApiError, Disconnected
from harness.kube.list_watch import ListWatch, WatchEvent
from harness.kube.scope import ResourceScope
from harness.record.recovery import Recovery, WatchOutcome

WATCH_SECONDS = (300, 600)
"""Range of the server-side timeout of a watch, as used by other clients."""

LASTED_SECONDS = 5.0
"""A watch that lasted this long counts as healthy, even without events."""

_decode_event = msgspec.json.Decoder(WatchEvent).decode


@dataclass
class Listed:
    """All objects in the scope at `version`; `gap` is why earlier events may have been missed."""

    scope: ResourceScope
    manifests: list[bytes]
    version: str
    gap: str | None


@dataclass
class WatchedEvents:
    """Some events of a watch, as the API sent them: type and manifest."""

    scope: ResourceScope
    events: list[tuple[str, bytes]]


@dataclass
class WatchHealth:
    """The state of a watcher, for the live line and for waiters."""

    scope: ResourceScope
    what: str = "listing"
    lists: int = 0
    failures: int = 0
    trouble: str | None = None
    denied: str | None = None
    error: Exception | None = field(default=None)


class Watcher(threading.Thread):
    """Lists, then watches until `stop`. Every message goes through the bounded queue: a slow disk slows reading."""

    def __init__(
        self,
        api: ListWatch,
        scope: ResourceScope,
        messages: queue.Queue[Any],
        go: threading.Event,
        gap: str | None,
        chance: Callable[[], float],
    ) -> None:
        """Watching begins once `go` is set; `gap` marks the first list of a continued recording."""
        super().__init__(name=f"watch {scope.resource} {scope.namespace}", daemon=True)
        self._api, self._scope, self._messages, self._go, self._chance = api, scope, messages, go, chance
        self._recovery = Recovery(chance, gap=gap)
        self._version, self._broke = "", False
        self._ending = threading.Event()
        self.health = WatchHealth(scope)

    def stop(self) -> None:
        """Queue no more messages; the connection ends with the process."""
        self._ending.set()

    def run(self) -> None:
        """List and watch according to `recovery`; unexpected errors are stored in `health`."""
        try:
            step = self._recovery.after(*self._list())
            while not self._ending.wait(step.wait_seconds):
                step = self._recovery.after(*(self._list() if step.gap or not self._version else self._watch()))
        except Exception as error:  # the recorder's main thread ends the recording because of it
            self.health.error = error

    def _list(self) -> tuple[WatchOutcome, str, bool]:
        self.health.what = "listing"
        manifests, token = [], ""
        try:
            while True:
                page = self._api.page(self._scope, token)
                manifests += [bytes(item) for item in page.items or ()]
                # All pages of a list have the same version; a list that expires in between gets 410.
                token = page.metadata.get("continue") or ""
                if not token:
                    break
        except (ApiError, Disconnected) as error:
            return self._failed(error, listing=True)
        self._version = page.metadata.get("resourceVersion") or "0"
        self._put(Listed(self._scope, manifests, self._version, self._recovery.gap))
        self.health.lists += 1
        self._well("listed")
        self._go.wait()
        return WatchOutcome.LISTED, "", True

    def _watch(self) -> tuple[WatchOutcome, str, bool]:
        began, came = time.monotonic(), False
        low, high = WATCH_SECONDS
        try:
            if self._broke and (now := self._went_back()):
                return WatchOutcome.EXPIRED, f"resourceVersion went back from {self._version} to {now}", False
            self._broke = False
            for lines in self._api.watch(self._scope, self._version, int(low + (high - low) * self._chance())):
                self._well("watching")
                expired = self._take(lines)
                came = True
                if expired:
                    return self._failed(expired, listing=False)
                if self._ending.is_set():
                    break
        except (ApiError, Disconnected) as error:
            return self._failed(error, listing=False, progress=came or time.monotonic() - began > LASTED_SECONDS)
        return WatchOutcome.ENDED, "", came or time.monotonic() - began > LASTED_SECONDS

    def _went_back(self) -> str | None:
        """The server's resourceVersion if it is older than ours: it lost its state, or is a different server.

        Such a server accepts a watch from a future version and stays silent until it reaches it.
        """
        now = self._api.page(self._scope, limit=1).metadata.get("resourceVersion") or ""
        return now if now.isdigit() and self._version.isdigit() and int(now) < int(self._version) else None

    def _take(self, lines: list[bytes]) -> ApiError | None:
        """Queue events; returns the error sent by the server instead of an event, if any."""
        events: list[tuple[str, bytes]] = []
        error = None
        for line in filter(None, lines):
            try:
                event = _decode_event(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
                raise Disconnected(f"the watch sent an invalid event: {wrong}", reached=True) from None
            if event.type == "ERROR":
                status = msgspec.json.decode(event.object)
                error = ApiError(int(status.get("code") or 500), str(status.get("message") or status.get("reason")))
                break
            events.append((event.type, bytes(event.object)))
        if events:
            self._put(WatchedEvents(self._scope, events))
            self._version = _version_of(events[-1][1]) or self._version
        return error

    def _failed(
        self, error: ApiError | Disconnected, listing: bool, progress: bool = False
    ) -> tuple[WatchOutcome, str, bool]:
        outcome = _outcome(error, listing)
        self.health.what, self.health.trouble = "waiting", str(error)
        self.health.failures += 1
        self._broke = True
        self.health.denied = str(error) if outcome is WatchOutcome.DENIED else None
        return outcome, str(error), progress

    def _well(self, what: str) -> None:
        self.health.what, self.health.trouble, self.health.denied = what, None, None

    def _put(self, message: Listed | WatchedEvents) -> None:
        while not self._ending.is_set():
            try:
                return self._messages.put(message, timeout=0.5)
            except queue.Full:
                continue


class _Meta(msgspec.Struct, gc=False):
    resourceVersion: str = ""


class _Object(msgspec.Struct, gc=False):
    metadata: _Meta = msgspec.field(default_factory=_Meta)


_decode_object = msgspec.json.Decoder(_Object).decode


def _version_of(manifest: bytes) -> str:
    return _decode_object(manifest).metadata.resourceVersion


def _outcome(error: ApiError | Disconnected, listing: bool) -> WatchOutcome:
    if isinstance(error, Disconnected):
        # An incomplete list is useless; an incomplete watch is valid up to its end.
        return WatchOutcome.BROKEN if error.reached and not listing else WatchOutcome.AWAY
    if error.status in (401, 403):
        return WatchOutcome.DENIED
    return {410: WatchOutcome.EXPIRED, 429: WatchOutcome.BUSY}.get(error.status, WatchOutcome.AWAY)
