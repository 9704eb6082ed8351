"""A proxy's own figures, from kube-proxy's metrics. Pure."""

from __future__ import annotations

import math

from harness.replay.compare.result import OwnMetrics

SYNC = "kubeproxy_sync_proxy_rules_duration_seconds"


def own_metrics(page: str) -> OwnMetrics | None:
    """Number of syncs, their mean duration and the bucket of their p99, in seconds; None without such a metric.

    Sums all families, and partial syncs if they are reported separately.
    """
    count, total = 0.0, 0.0
    buckets: dict[float, float] = {}
    for line in page.splitlines():
        name, _, rest = line.partition("{") if "{" in line else line.partition(" ")
        if not name.startswith(SYNC):
            continue
        value = float(line.split()[-1])
        if name == f"{SYNC}_count":
            count += value
        elif name == f"{SYNC}_sum":
            total += value
        elif name == f"{SYNC}_bucket":
            end = float(rest.partition('le="')[2].partition('"')[0].replace("+Inf", "inf"))
            buckets[end] = buckets.get(end, 0.0) + value
    if not count:
        return None
    p99 = next((end for end in sorted(buckets) if buckets[end] >= 0.99 * count), math.inf)
    return OwnMetrics(int(count), total / count, p99 if p99 < math.inf else None)
