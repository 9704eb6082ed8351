"""Plays a recording into a store on the recording's clock: at its pace, faster, step by step, or after a seek.

States: paused, playing, ended.  Seeking forward applies all events in between at once, so that watchers see them;
seeking backward resets the store, and every watch ends with 410 Gone, as after a restored backup.  The order of events
is always the recording's.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import msgspec

from harness.apiserver.manifest import head_of
from harness.apiserver.store import Store
from harness.kube.resources import SERVICE_CIDRS
from harness.log import Recording, open_source
from harness.log.events import OBJECT_TYPES, Event, JsonObject
from harness.log.initial import initial_part
from harness.log.window import Window

BURST = 64
"""Events applied before yielding to the event loop."""


def fold(store: Store, event: Event, ordered: bool = True) -> None:
    """Apply one event of a recording to the store; ValueError for an invalid manifest. Markers are ignored."""
    if event.type == "BOOKMARK":
        head = msgspec.json.decode(event.object, type=dict).get("metadata") or {}
        if (text := str(head.get("resourceVersion", ""))).isdigit():
            store.collection(event.resource).advance(int(text))
    if event.type not in OBJECT_TYPES:
        return
    raw = bytes(event.object)
    if event.type == "DELETED":
        metadata = head_of(raw).metadata
        store.remove(event.resource, metadata.namespace or "", metadata.name, raw)
    else:
        store.put(event.resource, raw, ordered=ordered)


def add_service_cidrs(store: Store, cidrs: list[str] | None) -> None:
    """Apply the facts in a recording's header."""
    if cidrs:
        manifest = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}}
        store.put(SERVICE_CIDRS, msgspec.json.encode(manifest))


class Player:
    """Plays one recording into one store. All methods must be called in the event loop of `run`."""

    def __init__(self, source: str, store: Store, window: Window, speed: float | None, paused: bool) -> None:
        """`speed` None is as fast as possible."""
        self._source, self._store, self._window = source, store, window
        self.speed, self._paused = speed, paused
        self.seq, self.t, self.applied = 0, 0, 0
        self._recording: Recording | None = None
        self._events: Iterator[Event] = iter(())
        self._next: Event | None = None
        self._poke = asyncio.Event()
        self._base = (0.0, 0)

    @property
    def state(self) -> str:
        """paused, playing or ended; seeking back from the end restores the previous state."""
        return "ended" if self._next is None else "paused" if self._paused else "playing"

    @property
    def cluster(self) -> JsonObject:
        """The recording's facts about its cluster."""
        return self._opened.header.cluster

    @property
    def _opened(self) -> Recording:
        assert self._recording, "it is open from `load` on"
        return self._recording

    def load(self, start: tuple[str, int] | None = None) -> None:
        """Apply the initial list, and events before `start`; RecordingError for bad input."""
        self.close()
        self._recording = open_source(self._source)
        window = self._window._replace(start=start or self._window.start)
        initial, rest = initial_part(iter(self._recording), window)
        with self._store.lock:
            add_service_cidrs(self._store, self._recording.header.cluster.get("serviceCIDRs"))
            for event in initial:
                self._fold(event, ordered=False)
            self._store.forget()
        self._events = itertools.chain(rest, self._recording)
        self._read_ahead()

    def close(self) -> None:
        """Close the source."""
        if self._recording is not None:
            self._recording.__exit__()

    async def run(self) -> None:
        """Play until cancelled; RecordingError if the recording is invalid."""
        self._rebase()
        while True:
            self._poke.clear()
            delay = self._delay()
            if delay is not None and delay <= 0:
                self._burst()
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(delay):
                    await self._poke.wait()
            except TimeoutError:
                pass

    def pause(self) -> None:
        """Stop the clock."""
        self.t = self._now()
        self._settle(paused=True)

    def resume(self) -> None:
        """Restart the clock at its current position."""
        self._settle(paused=False)

    def set_speed(self, speed: float | None) -> None:
        """Change the speed."""
        self.t, self.speed = self._now(), speed
        self._settle(self._paused)

    def step(self, count: int) -> None:
        """Apply the next `count` events now, and pause after them."""
        for _ in range(count):
            if self._next is not None:
                self._apply()
        self._settle(paused=True)

    def seek(self, place: tuple[str, int]) -> None:
        """Seek to the state after a seq or at a time; LookupError if the source can be read only once."""
        field, value = place
        if value < getattr(self, field):
            if self._source == "-":
                raise LookupError("standard input can be read only once: seek forward only")
            with self._store.lock:
                self._store.reset()
                self.seq = self.t = 0
                self.load((field, value + 1))
        while self._next is not None and getattr(self._next, field) <= value:
            self._apply()
        if field == "t":
            self.t = value
        self._settle(self._paused)

    def _settle(self, paused: bool) -> None:
        self._paused = paused
        self._rebase()
        self._poke.set()

    def _rebase(self) -> None:
        self._base = asyncio.get_running_loop().time(), self.t

    def _now(self) -> int:
        """The recording's clock, in ns; it is stopped unless playing at a factor."""
        if self.state != "playing" or self.speed is None:
            return self.t
        then, t = self._base
        return max(self.t, t + int((asyncio.get_running_loop().time() - then) * 1e9 * self.speed))

    def _delay(self) -> float | None:
        """Seconds until the next event is due, None if there is none."""
        if self.state != "playing" or self._next is None:
            return None
        return 0.0 if self.speed is None else (self._next.t - self._now()) / 1e9 / self.speed

    def _burst(self) -> None:
        for _ in range(BURST):
            delay = self._delay()
            if delay is None or delay > 0:
                return
            self._apply()

    def _apply(self) -> None:
        assert self._next, "there is one unless it has ended"
        self._fold(self._next, ordered=True)
        self.applied += 1
        self._read_ahead()

    def _read_ahead(self) -> None:
        event = next(self._events, None)
        self._next = None if event is None or self._window.after(event) else event

    def _fold(self, event: Event, ordered: bool) -> None:
        try:
            fold(self._store, event, ordered)
        except ValueError as error:
            raise self._opened.error(event, f"{event.type} {event.resource}: {error}") from None
        self.seq, self.t = event.seq, max(self.t, event.t)


def position_of(player: Player) -> dict[str, object]:
    """A player's position, for the control endpoint."""
    return {
        "state": player.state,
        "speed": player.speed or "max",
        "seq": player.seq,
        "t_seconds": player.t / 1e9,
        "events_applied": player.applied,
    }
