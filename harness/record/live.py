"""Status of a running recorder: a live line in a terminal, periodic lines elsewhere."""

from __future__ import annotations

import time
from collections import deque

from rich.console import Console

from harness.record.recorder import Recorder
from harness.record.watcher import WatchHealth
from harness.wording import plural

RATE_SECONDS = 10.0


class Live:
    """A context manager, to be called with the recorder a few times per second."""

    def __init__(self, console: Console, every_seconds: float) -> None:
        self._console, self._every = console, every_seconds
        self._status = console.status("connecting") if console.is_terminal else None
        self._samples: deque[tuple[float, int, int]] = deque()
        self._said = 0.0

    def __enter__(self) -> Live:
        if self._status:
            self._status.__enter__()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._status:
            self._status.__exit__(None, None, None)

    def __call__(self, recorder: Recorder) -> None:
        """Update the status, and print it when due."""
        now = time.monotonic()
        self._samples.append((now, recorder.counts.events, recorder.acknowledged))
        while now - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()
        if self._status:
            self._status.update(self._line(recorder))
        elif now - self._said >= self._every:
            self._said = now
            self._console.print(self._line(recorder), highlight=False, soft_wrap=True)

    def _line(self, recorder: Recorder) -> str:
        log = recorder.log
        parts = [f"acknowledged seq {recorder.acknowledged}", f"{self._rate(1):,.0f} events/s"]
        if recorder.forwarder:
            lag = log.durable - recorder.forwarder.acknowledged
            behind = f"{plural(lag, 'event')}, {plural(log.outstanding(recorder.forwarder.acknowledged), 'byte')}"
            parts.append(f"topic behind {behind}, {self._rate(2):,.0f} events/s")
            if recorder.forwarder.trouble:
                parts.append(recorder.forwarder.trouble)
        return "; ".join([*parts, *troubles([watcher.health for watcher in recorder.watchers])])

    def _rate(self, column: int) -> float:
        first, last = self._samples[0], self._samples[-1]
        return (last[column] - first[column]) / (last[0] - first[0]) if last[0] > first[0] else 0.0


def troubles(healths: list[WatchHealth]) -> list[str]:
    """The watchers' problems, grouped by reason, as an unavailable API affects all of them."""
    suffering: dict[tuple[str, str], list[str]] = {}
    for health in healths:
        if health.trouble:
            suffering.setdefault((health.what, health.trouble), []).append("/".join(filter(None, health.scope)))
    return [f"{', '.join(scopes)} {what}: {trouble}" for (what, trouble), scopes in suffering.items()]


def summary(recorder: Recorder, complete: bool) -> str:
    """The summary printed after the log is closed."""
    counts, seconds = recorder.counts, time.monotonic() - recorder.counts.began
    by_type = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.types.items()))
    text = f"recorded {plural(counts.events, 'event')} in {seconds:,.1f} s, up to seq {recorder.log.durable}"
    if by_type:
        text += f": {by_type}"
    if not complete and recorder.forwarder:
        missing = recorder.log.durable - recorder.forwarder.acknowledged
        text += f"\nthe topic lacks the last {missing:,}; they are on disk and will be sent by the next harness record"
    return text
