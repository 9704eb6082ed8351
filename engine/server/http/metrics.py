"""kube-proxy's metrics under kube-proxy's names, so that dashboards and alerts go on working (MET-02, MET-03)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

DURATION_BUCKETS = tuple(0.001 * 2**n for n in range(15))
PROGRAMMING_BUCKETS = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))
REQUEST_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
IP_FAMILY = {4: "IPv4", 6: "IPv6"}
CONTENT_TYPE = CONTENT_TYPE_LATEST

prometheus_client.disable_created_metrics()


class Metrics:
    """One process's metrics, those of its mode; label ip_family as Kubernetes 1.34 has it. `host` is the API's."""

    def __init__(self, mode: str, families: Iterable[int], host: str = "") -> None:
        self._host = host
        self.registry = CollectorRegistry()
        self._families = [IP_FAMILY[family] for family in families]
        ProcessCollector(registry=self.registry)
        kinds = {"duration": "", "full": "full_", "partial": "partial_"}
        if mode == "ipvs":
            kinds = {"duration": ""}
        self._durations = {
            kind: self._histogram(f"sync_{infix}proxy_rules_duration_seconds", DURATION_BUCKETS)
            for kind, infix in kinds.items()
        }
        self._programming = self._histogram("network_programming_duration_seconds", PROGRAMMING_BUCKETS)
        self._last = self._gauge("sync_proxy_rules_last_timestamp_seconds")
        self._queued = self._gauge("sync_proxy_rules_last_queued_timestamp_seconds")
        self._pending = {
            "services": self._gauge("sync_proxy_rules_service_changes_pending"),
            "endpointslices": self._gauge("sync_proxy_rules_endpoint_changes_pending"),
        }
        self._changes = {
            "services": self._counter("sync_proxy_rules_service_changes"),
            "endpointslices": self._counter("sync_proxy_rules_endpoint_changes"),
        }
        self._no_local = self._gauge("sync_proxy_rules_no_local_endpoints_total", "traffic_policy")
        self._conntrack_seconds = self._histogram("conntrack_reconciler_sync_duration_seconds", DURATION_BUCKETS)
        self._conntrack_deleted = self._counter("conntrack_reconciler_deleted_entries")
        self._rules = {}
        if mode == "iptables":
            names = {"total": "sync_proxy_rules_iptables_total", "last": "sync_proxy_rules_iptables_last"}
            self._rules = {kind: self._gauge(name, "table") for kind, name in names.items()}
        self._failures = [self._counter(name) for name in _FAILURES.get(mode, ())]
        self._partial_failures = [self._counter(name) for name in _PARTIAL_FAILURES.get(mode, ())]
        if mode == "nftables":
            # For alerts on it: what goes stale is removed in the sync's own transaction, and fails with it.
            self._counter("sync_proxy_rules_nftables_cleanup_failures")
        self.healthz = Counter("kubeproxy_proxy_healthz", _HELP["healthz"], ["code"], registry=self.registry)
        self.livez = Counter("kubeproxy_proxy_livez", _HELP["livez"], ["code"], registry=self.registry)
        self._requests = Counter(
            "rest_client_requests", _HELP["requests"], ["code", "method", "host"], registry=self.registry
        )
        self._request_seconds = Histogram(
            "rest_client_request_duration_seconds",
            _HELP["request_seconds"],
            ["verb", "host"],
            registry=self.registry,
            buckets=REQUEST_BUCKETS,
        )

    def queued(self, now: float) -> None:
        """A sync was asked for at `now`, seconds since 1970."""
        for family in self._families:
            self._queued.labels(family).set(now)

    def changed(self, resource: str) -> None:
        """A Service or EndpointSlice changed something."""
        if resource in self._changes:
            for family in self._families:
                self._changes[resource].labels(family).inc()
                self._pending[resource].labels(family).inc()

    def attempted(self, seconds: dict[int, float], full: bool) -> None:
        """A sync took so long in each family, whether or not it succeeded (MET-07)."""
        for family, took in seconds.items():
            self._durations["duration"].labels(IP_FAMILY[family]).observe(took)
            kind = "full" if full else "partial"
            if kind in self._durations:
                self._durations[kind].labels(IP_FAMILY[family]).observe(took)
        for gauge in self._pending.values():
            for family in self._families:
                gauge.labels(family).set(0)

    def failed(self, families: Iterable[int], full: bool) -> None:
        """The kernel refused these families' programs."""
        for family in families:
            for counter in self._failures if full else [*self._failures, *self._partial_failures]:
                counter.labels(IP_FAMILY[family]).inc()

    def programmed(self, families: Iterable[int], waits: Iterable[float]) -> None:
        """Seconds from each trigger to the end of the sync that carried it (MET-04)."""
        for family in families:
            for wait in waits:
                self._programming.labels(IP_FAMILY[family]).observe(wait)

    def without_local(self, family: int, counts: dict[str, int]) -> None:
        """Ports, or Services, of a Local policy without a local endpoint, by policy (MET-05)."""
        for policy, count in counts.items():
            self._no_local.labels(IP_FAMILY[family], policy).set(count)

    def rules(self, family: int, total: Mapping[str, int], last: Mapping[str, int]) -> None:
        """Rules that a full program has, and that the last one wrote, by table (MET-06)."""
        for kind, counts in (("total", total), ("last", last)):
            for table, count in counts.items():
                self._rules[kind].labels(IP_FAMILY[family], table).set(count)

    def conntrack(self, families: Iterable[int], seconds: float, removed: dict[int, int]) -> None:
        """Stale UDP flows were removed, so many in each family, in `seconds` for all (CT-05)."""
        for family in families:
            self._conntrack_seconds.labels(IP_FAMILY[family]).observe(seconds)
            self._conntrack_deleted.labels(IP_FAMILY[family]).inc(removed.get(family, 0))

    def succeeded(self, families: Iterable[int], now: float) -> None:
        """The last success was at `now`, seconds since 1970."""
        for family in families:
            self._last.labels(IP_FAMILY[family]).set(now)

    def requested(self, method: str, code: str, seconds: float) -> None:
        """The API server answered with a code, or did not ("<error>"), after so long."""
        self._requests.labels(code, method, self._host).inc()
        self._request_seconds.labels(method, self._host).observe(seconds)

    def text(self) -> bytes:
        """The page for /metrics."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, buckets) -> Histogram:
        histogram = Histogram(f"kubeproxy_{name}", _help(name), ["ip_family"], registry=self.registry, buckets=buckets)
        return self._of_families(histogram)

    def _gauge(self, name: str, *labels: str) -> Gauge:
        return Gauge(f"kubeproxy_{name}", _help(name), ["ip_family", *labels], registry=self.registry)

    def _counter(self, name: str) -> Counter:
        return self._of_families(Counter(f"kubeproxy_{name}", _help(name), ["ip_family"], registry=self.registry))

    def _of_families(self, metric):
        """The same, with a sample of each family from the start, at 0."""
        for family in self._families:
            metric.labels(family)
        return metric


_FAILURES = {
    "iptables": ("sync_proxy_rules_iptables_restore_failures",),
    "ipvs": ("sync_proxy_rules_iptables_restore_failures",),
    "nftables": ("sync_proxy_rules_nftables_sync_failures",),
}
_PARTIAL_FAILURES = {"iptables": ("sync_proxy_rules_iptables_partial_restore_failures",)}

_HELP = {
    "healthz": "Answers of /healthz by code",
    "livez": "Answers of /livez by code",
    "requests": "Requests to the API server by code, method and host",
    "request_seconds": "Seconds until the API server's answer began, by verb and host",
}


def _help(name: str) -> str:
    return name.replace("_", " ").capitalize()
