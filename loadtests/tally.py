"""Collects the content of a load log: requests by the second in which they were due, histograms, causes. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from hdrh.histogram import HdrHistogram

SECOND_NS = 1_000_000_000
LOWEST_US, HIGHEST_US, DIGITS = 1, 60_000_000, 3
LATE_NS = 100_000_000
"""A request that is sent later than this after it was due counts as late."""


class _Second:
    def __init__(self) -> None:
        self.sent = self.failed = self.late = 0
        self.latencies_us: list[int] = []


class _Flow:
    def __init__(self) -> None:
        self.histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        self.due = self.sent = self.answered = self.not_sent = 0
        self.causes: Counter[str] = Counter()
        self.endpoints: Counter[str] = Counter()


class Tally:
    """Receives the outcome of every request; returns the rows of complete seconds.

    Latency counts from when a request was due, and so includes the time that it waited to be sent.
    """

    def __init__(self, flows: tuple[str, ...], late_ns: int = LATE_NS) -> None:
        self._flows = {name: _Flow() for name in flows}
        self._seconds: dict[tuple[int, str], _Second] = {}
        self._late_ns = late_ns

    def answered(self, flow: str, at_ns: int, sent_ns: int, ended_ns: int, endpoint: str) -> None:
        """A request that was due at `at_ns` and sent at `sent_ns` was answered at `ended_ns`."""
        latency_us = max(LOWEST_US, (ended_ns - at_ns) // 1000)
        held, second = self._flows[flow], self._second(flow, at_ns, sent_ns)
        held.sent += 1
        held.answered += 1
        held.endpoints[endpoint] += 1
        held.histogram.record_value(min(latency_us, HIGHEST_US))
        second.latencies_us.append(latency_us)

    def failed(self, flow: str, at_ns: int, sent_ns: int, cause: str) -> None:
        """A request was not answered, or incorrectly."""
        held, second = self._flows[flow], self._second(flow, at_ns, sent_ns)
        held.sent += 1
        held.causes[cause] += 1
        second.failed += 1

    def due(self, flow: str) -> None:
        """A request was due."""
        self._flows[flow].due += 1

    def not_sent(self, flow: str) -> None:
        """A request was due but not sent: too many were in flight, or the load ended."""
        self._flows[flow].not_sent += 1

    def _second(self, flow: str, at_ns: int, sent_ns: int) -> _Second:
        second = self._seconds.setdefault((at_ns // SECOND_NS, flow), _Second())
        second.sent += 1
        second.late += sent_ns - at_ns > self._late_ns
        return second

    def rows(self, before_ns: int) -> Iterator[dict[str, Any]]:
        """Removes and returns the rows of seconds that ended before that time, in order."""
        for second, flow in sorted(key for key in self._seconds if (key[0] + 1) * SECOND_NS <= before_ns):
            held = self._seconds.pop((second, flow))
            latencies = sorted(held.latencies_us)
            yield {
                "kind": "second",
                "at_ns": second * SECOND_NS,
                "flow": flow,
                "sent": held.sent,
                "answered": len(latencies),
                "failed": held.failed,
                "late": held.late,
                "p50_us": _rank(latencies, 0.5),
                "p99_us": _rank(latencies, 0.99),
                "max_us": latencies[-1] if latencies else None,
            }

    def summaries(self) -> Iterator[dict[str, Any]]:
        """One row per flow, with its histogram."""
        for name, held in self._flows.items():
            some = held.answered > 0
            yield {
                "kind": "flow",
                "flow": name,
                "due": held.due,
                "sent": held.sent,
                "answered": held.answered,
                "failed": sum(held.causes.values()),
                "not_sent": held.not_sent,
                "causes": dict(held.causes.most_common()),
                **{
                    f"{label}_us": held.histogram.get_value_at_percentile(percent) if some else None
                    for label, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("p999", 99.9), ("max", 100))
                },
                "histogram": held.histogram.encode().decode(),
                "endpoints": dict(sorted(held.endpoints.items())),
            }


def _rank(ordered: list[int], part: float) -> int | None:
    """The quantile of sorted values by the nearest-rank method; None if there are none."""
    return ordered[max(0, math.ceil(len(ordered) * part) - 1)] if ordered else None
