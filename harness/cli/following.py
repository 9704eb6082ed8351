"""`--follow`, the same for every command that has it: until Ctrl-C or SIGTERM, then an orderly end."""

from __future__ import annotations

import signal
import threading

from harness.recording.follow import Follow


def until_signalled() -> Follow:
    """What to open a source with; from now on those signals end it, rather than the process."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return Follow(lambda: not stop.wait(0.1), ticks=True)
