"""What `harness compare --json` writes: modes side by side, proxies from outside, versions, and two results.

harness/external measures proxies from outside; the types of its figures are here, where they are printed.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from harness.judge.oracle.differences import Difference
from harness.replay.result import Percentiles, ReplayResult


class ModeRun(Struct, frozen=True):
    """The outcome of one mode: the result of its replay, or None and the `reason`."""

    mode: str
    exit_code: int
    reason: str
    result: ReplayResult | None


class OutsideChange(Struct, frozen=True, kw_only=True):
    """Latencies of `count` changes, in seconds; those `by_kind` have their `count` as well.

    `not_counted` are events that change nothing for the node.  Of the other changes, no packet can reveal the `unseen`
    ones, the `unsettled` ones came at an unknown time, and the `missed` ones never.  `clocks` has the number of times
    that end by the kernel's notifications, and by packets.
    """

    count: int
    not_counted: int
    unseen: int
    unsettled: int
    missed: int = 0
    latency_seconds: Percentiles | None
    by_kind: dict[str, dict[str, float]]
    clocks: dict[str, int]

    @property
    def total(self) -> int:
        """All changes of what the node must do."""
        return self.count + self.unseen + self.unsettled + self.missed


class OwnMetrics(Struct, frozen=True):
    """A proxy's sync durations by its metrics, in seconds; the upper bound of the p99's bucket is None if infinite."""

    syncs: int
    mean_seconds: float
    p99_below_seconds: float | None


class OutsideResult(Struct, frozen=True, kw_only=True):
    """The figures of one proxy; seconds and bytes. `first_sync_seconds` is None if it never converged."""

    node: str
    services: int
    kernel: dict[str, str]
    verified: bool
    first_sync_seconds: float | None
    rules: int | None
    elements: int | None
    change: OutsideChange
    missed: list[str]
    wrong: list[str]
    packets: dict[str, int]
    cpu_seconds: dict[str, float]
    peak_memory_bytes: int
    own_metrics: OwnMetrics | None


class OutsideRun(Struct, frozen=True):
    """One proxy in one mode; without a result if nothing could be measured."""

    name: str
    mode: str
    command: list[str]
    exit_code: int
    state: str
    reason: str
    result: OutsideResult | None


class Comparison(Struct):
    """One recording in several modes; `differences` in behaviour are None after an interruption."""

    source: str
    modes: list[ModeRun]
    differences: list[Difference] | None = None
    external: list[OutsideRun] | UnsetType = UNSET


class UpgradeRow(Struct, frozen=True):
    """`where` is a destination, or anything else that changes; `service` is "" unless it concerns a single one."""

    mode: str
    since: str
    service: str
    where: str
    before: str
    after: str


class Upgrade(Struct, frozen=True):
    """What each version of kube-proxy changes."""

    source: str
    modes: list[str]
    kube_versions: list[str]
    changes: list[UpgradeRow]


class FigureChange(Struct, frozen=True):
    """One figure in both results, None if missing. `unit` is "s", "ms", "MiB", "%" or "" for a count.

    `judged`: whether an increase is worse, so that --max-worse applies.  `change_percent` is the increase from
    `before` to `after`; None if undefined.
    """

    mode: str
    name: str
    unit: str
    before: int | float | None
    after: int | float | None
    judged: bool
    change_percent: float | None


class Changes(Struct, frozen=True):
    """All figures of the common modes of two results, and remarks on their comparability."""

    before: str
    after: str
    kind: str
    figures: list[FigureChange]
    remarks: list[str]
