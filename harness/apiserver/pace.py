"""Plays a recording into a store by the recording's clock: its pace, faster, step by step, or from elsewhere.

States: paused, playing, ended.  Seeking forward applies what lies between at once, so watchers see it
all; seeking backward starts the store anew, and every watch ends with 410 Gone, as after a restored
backup.  Whatever the speed, the order is the recording's.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import msgspec

from harness.events import OBJECT_TYPES, Event
from harness.recording import Recording, open_source
from harness.replay.schedule import Window, initial_part
from harness.serve.kinds import SERVICE_CIDRS
from harness.serve.manifest import head_of
from harness.serve.store import Store

BURST = 64
"""Events applied before the loop may serve others."""


def fold(store: Store, event: Event, ordered: bool = True) -> None:
    """Take one event of a recording into the store; ValueError for an odd manifest. Markers say nothing here."""
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


class Player:
    """One recording, one store. All methods belong to the loop that `run` runs in."""

    def __init__(self, source: str, store: Store, window: Window, speed: float | None, paused: bool) -> None:
        """`speed` None is as fast as can be."""
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
        """paused, playing or ended; whoever seeks back from the end finds it as it was before."""
        return "ended" if self._next is None else "paused" if self._paused else "playing"

    @property
    def cluster(self) -> dict:
        """What the recording knows of its cluster."""
        return self._recording.header.cluster

    def load(self, start: tuple[str, int] | None = None) -> None:
        """Fold the initial list, and what comes before `start`; RecordingError for bad input."""
        self.close()
        self._recording = open_source(self._source)
        window = self._window._replace(start=start or self._window.start)
        initial, rest = initial_part(iter(self._recording), window)
        with self._store.lock:
            self._service_cidrs(self._recording.header.cluster.get("serviceCIDRs"))
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
        """Play until cancelled; RecordingError when the recording turns out bad on the way."""
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
        """Let the clock run on from where it stands."""
        self._settle(paused=False)

    def set_speed(self, speed: float | None) -> None:
        """Another speed from now on."""
        self.t, self.speed = self._now(), speed
        self._settle(self._paused)

    def step(self, count: int) -> None:
        """Apply the next `count` events now, and stay paused after them."""
        for _ in range(count):
            if self._next is not None:
                self._apply()
        self._settle(paused=True)

    def seek(self, place: tuple[str, int]) -> None:
        """Go to right after a seq or a time; LookupError when the source can be read once only."""
        field, value = place
        if value < getattr(self, field):
            if self._source == "-":
                raise LookupError("standard input can be read once: only seek forward")
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
        """The recording's clock, in ns; it stands still unless playing at a factor."""
        if self.state != "playing" or self.speed is None:
            return self.t
        then, t = self._base
        return max(self.t, t + int((asyncio.get_running_loop().time() - then) * 1e9 * self.speed))

    def _delay(self) -> float | None:
        """Seconds until the next event is due, None for never."""
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
            raise self._recording.error(event, f"{event.type} {event.resource}: {error}") from None
        self.seq, self.t = event.seq, max(self.t, event.t)

    def _service_cidrs(self, cidrs: list[str] | None) -> None:
        if cidrs:
            manifest = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}}
            self._store.put(SERVICE_CIDRS, msgspec.json.encode(manifest))


def position_of(player: Player) -> dict[str, object]:
    """Where a player is, for the control endpoint."""
    return {
        "state": player.state,
        "speed": player.speed or "max",
        "seq": player.seq,
        "t_seconds": player.t / 1e9,
        "events_applied": player.applied,
    }
