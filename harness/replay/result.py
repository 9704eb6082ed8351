"""What one replay found, and its JSON form (docs/replay-result.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
KINDS = ("endpointslice-changes", "service-edits", "deletes")
_HIGHEST_MICROSECONDS = 24 * 3600 * 1_000_000


class Latencies:
    """An HDR histogram of seconds, microseconds fine, three significant digits."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _HIGHEST_MICROSECONDS, 3)
        self.count = 0
        self._highest = 0.0

    def record(self, seconds: float) -> None:
        """Add one sample."""
        self._histogram.record_value(max(1, round(seconds * 1e6)))
        self.count += 1
        self._highest = max(self._highest, seconds)

    def summary(self) -> dict[str, float] | None:
        """Percentiles and max in seconds, None without samples."""
        if not self.count:
            return None
        # The histogram answers with the upper end of a bucket, which may lie above every sample.
        at = self._histogram.get_value_at_percentile
        values = {n: min(at(p) / 1e6, self._highest) for n, p in PERCENTILES.items()}
        return {**values, "max": self._highest}


@dataclass
class Result:
    """Figures of one run; seconds, bytes. `verified` is True, False or "unknown"."""

    recording: dict[str, Any]
    engine: dict[str, Any]
    kernel: dict[str, Any]
    digest: str = ""
    syncs: int = 0
    operations: int = 0
    bytes: int = 0
    initial: dict[str, float] = field(default_factory=dict)
    convergence: Latencies = field(default_factory=Latencies)
    work: Latencies = field(default_factory=Latencies)
    conntrack: Latencies = field(default_factory=Latencies)
    flows_removed: int = 0
    by_kind: dict[str, Latencies] = field(default_factory=lambda: {kind: Latencies() for kind in KINDS})
    verified: bool | str = "unknown"
    checks: int = 0
    connections: int = 0
    differences: list[str] = field(default_factory=list)
    peak_rss_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """The documented JSON object."""
        return {
            "recording": self.recording,
            "engine": self.engine,
            "kernel": self.kernel,
            "digest": self.digest,
            "syncs": self.syncs,
            "operations": self.operations,
            "bytes": self.bytes,
            "flows_removed": self.flows_removed,
            "initial": self.initial,
            "change": {
                "count": self.convergence.count,
                "convergence_seconds": self.convergence.summary(),
                "work_seconds": self.work.summary(),
                "conntrack_seconds": self.conntrack.summary(),
                "by_kind": {
                    kind: {"count": v.count, "convergence_seconds": v.summary()} for kind, v in self.by_kind.items()
                },
            },
            "verified": self.verified,
            "checks": self.checks,
            "connections": self.connections,
            "differences": self.differences,
            "peak_rss_bytes": self.peak_rss_bytes,
        }
