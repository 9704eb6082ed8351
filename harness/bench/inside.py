"""Run as a program by the Python that is measured: the engine in this process, one step per line of standard input.

    python -P inside.py RECORDING MODE

Each step answers with a line of JSON.  `first`: a first sync from the recording's file into an empty kernel; `restart`:
by a new engine over the rules that are there; `change`: the next batch, null after the last; `size`: what is in the
kernel.  It imports nothing of `harness.bench`, so that an installed version that lacks it can be measured as well.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from engine.proxier import Proxier
from harness.log import open_source
from harness.log.events import Event
from harness.log.initial import initial_part
from harness.log.window import Window
from harness.modes import mode_of
from harness.replay.config import proxy_config
from harness.replay.kernels import KernelUnavailable, open_kernel
from harness.replay.schedule import Batch, batches

if TYPE_CHECKING:  # a baseline may be older
    from engine.kernel.interface import KernelOfMode

MIN_SYNC_PERIOD = 10**9


class EngineWorker:
    """The engine and its kernel."""

    def __init__(self, path: str, mode: str) -> None:
        self._path, self._mode = path, mode
        self._stack, self._over = ExitStack(), ExitStack()
        self._batches: Iterator[Batch] = iter(())

    def first(self) -> dict[str, float]:
        """A first sync in a new namespace."""
        self._over.close()
        self._stack.close()
        self._target = self._stack.enter_context(open_kernel("netns", self._mode))
        return self._sync(self._target.kernel)

    def restart(self) -> dict[str, float]:
        """A first sync of a new engine in the same namespace."""
        assert self._target.place, "a namespace is a place"
        self._over.close()
        opened = self._over.enter_context(mode_of(self._mode).real(self._target.place))
        return self._sync(opened.kernel)

    def _sync(self, kernel: KernelOfMode) -> dict[str, float]:
        began, used = time.perf_counter(), _cpu()
        with open_source(self._path) as recording:
            config = proxy_config(self._path, recording.header.cluster, None)
            proxier = Proxier(self._mode, config, kernel, time.perf_counter, conntrack=self._target.conntrack)
            if prepare := getattr(proxier, "prepare", None):  # a baseline may be older
                prepare()
            events = iter(recording)
            walk, rest = initial_part(events, Window(), frozenset({"nodes"}))
            for event in walk:
                proxier.state.observe(event.type, event.resource, event.object)
            read = time.perf_counter() - began
            sync = proxier.sync()
            answer = {"seconds": time.perf_counter() - began, "cpu_seconds": _cpu() - used}
            answer |= {"read_seconds": read, "compute_seconds": sync.compute_seconds}
            self._proxier = proxier
            self._batches = iter(list(batches(rest, events, Window(), MIN_SYNC_PERIOD)))
        return answer | {"apply_seconds": sync.apply_seconds, "peak_memory_bytes": _peak()}

    def change(self) -> dict[str, float] | None:
        """The next batch, observed and synced; None after the last."""
        batch = next(self._batches, None)
        if batch is None:
            return None
        events: list[Event] = batch.events
        began, used = time.perf_counter(), time.process_time()
        for event in events:
            self._proxier.state.observe(event.type, event.resource, event.object)
        self._proxier.sync()
        return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used}

    def size(self) -> dict[str, int | None]:
        """The size of the kernel state, nulls if this version cannot count it, and the peak memory before counting."""
        peak = {"peak_memory_bytes": _peak()}
        try:
            from harness.external.size import size
        except ImportError:
            return {"rules": None, "elements": None, **peak}
        assert self._target.place, "a namespace is a place"
        return {**size(self._target.place.make_socket, self._target.place.run)._asdict(), **peak}

    def end(self) -> None:
        """Close the namespace."""
        self._over.close()
        self._stack.close()


def _cpu() -> float:
    """CPU seconds of this process and of the tools that it has run."""
    tools = os.times()
    return time.process_time() + tools.children_user + tools.children_system


def _peak() -> int:
    """Peak memory in bytes since this program began; getrusage would include the process that started it."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def main(path: str, mode: str) -> None:
    """Serve steps until the end of standard input."""
    inside = EngineWorker(path, mode)
    answers, sys.stdout = sys.stdout, sys.stderr
    try:
        for line in sys.stdin:
            try:
                answer = getattr(inside, line.strip())()
            except KernelUnavailable as error:
                answer = {"not_available": str(error)}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    finally:
        inside.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
