"""Live state of a run's load, from its processes' logs: rate, losses, completed faults."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

RECENT_SECONDS = 5
SECOND_NS = 1_000_000_000


class LiveLoad:
    """Tails each log in `folder`; an incomplete line is read next time.

    Logs of an earlier run in that folder are ignored: `since_ns` is on CLOCK_MONOTONIC, like the logs' times.
    """

    def __init__(self, folder: Path, since_ns: int) -> None:
        self._folder, self._since_ns = folder, since_ns
        self._read: dict[Path, int] = {}
        self._by_second: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        self._sent = self._failed = 0

    def line(self) -> str:
        """`last 5 s: 198 requests per second, 3 lost; 1,204 sent, 5 lost so far`; "" before the first request."""
        for path in sorted(self._folder.glob("*.jsonl")):
            self._follow(path)
        if not self._by_second:
            return ""
        last = max(self._by_second)
        recent = [self._by_second[second] for second in self._by_second if second > last - RECENT_SECONDS]
        rate, lost = sum(sent for sent, _ in recent) / len(recent), sum(failed for _, failed in recent)
        return (
            f"last {len(recent)} s: {rate:,.0f} requests per second, {lost:,} lost;"
            f" {self._sent:,} sent, {self._failed:,} lost so far"
        )

    def _follow(self, path: Path) -> None:
        try:
            with path.open("rb") as log:
                if log.seek(0, os.SEEK_END) < self._read.get(path, 0):
                    self._read[path] = 0  # rewritten from the beginning
                log.seek(self._read.get(path, 0))
                whole, newline, _ = log.read().rpartition(b"\n")
        except OSError:
            return
        self._read[path] = self._read.get(path, 0) + len(whole + newline)
        for line in whole.splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
        except ValueError:
            return  # the verdict reports a log that cannot be read
        if row.get("kind") == "second" and row["at_ns"] >= self._since_ns:
            held = self._by_second[row["at_ns"] // SECOND_NS]
            held[0] += row["sent"]
            held[1] += row["failed"]
            self._sent += row["sent"]
            self._failed += row["failed"]
