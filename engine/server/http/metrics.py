"""kube-proxy's metrics under the same names, so that dashboards and alerts keep working (MET-02, MET-03)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from engine.modes import MODES

DURATION_BUCKETS = tuple(0.001 * 2**n for n in range(15))
PROGRAMMING_BUCKETS = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))
REQUEST_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
IP_FAMILY = {4: "IPv4", 6: "IPv6"}
CONTENT_TYPE = CONTENT_TYPE_LATEST
Metric = TypeVar("Metric", Counter, Gauge)
Labelled = TypeVar("Labelled", Counter, Gauge, Histogram)

prometheus_client.disable_created_metrics()


class Metrics:
    """The metrics of a process in its mode; label ip_family as in Kubernetes 1.34. `host` is that of the API."""

    def __init__(self, mode: str, families: Iterable[int], host: str = "") -> None:
        self._host = host
        self.registry = CollectorRegistry()
        self._families = [IP_FAMILY[family] for family in families]
        ProcessCollector(registry=self.registry)
        kinds = {"duration": ""}
        if MODES[mode].partial_syncs:
            kinds |= {"full": "full_", "partial": "partial_"}
        own = _OF_MODE.get(mode, _OfMode())
        self._durations = {
            kind: self._histogram(f"sync_{infix}proxy_rules_duration_seconds", DURATION_BUCKETS)
            for kind, infix in kinds.items()
        }
        self._programming = self._histogram("network_programming_duration_seconds", PROGRAMMING_BUCKETS)
        self._last = self._gauge("sync_proxy_rules_last_timestamp_seconds")
        self._queued = self._gauge("sync_proxy_rules_last_queued_timestamp_seconds")
        self._pending = {
            "services": self._shared(Gauge, "sync_proxy_rules_service_changes_pending"),
            "endpointslices": self._shared(Gauge, "sync_proxy_rules_endpoint_changes_pending"),
        }
        self._changes = {
            "services": self._shared(Counter, "sync_proxy_rules_service_changes"),
            "endpointslices": self._shared(Counter, "sync_proxy_rules_endpoint_changes"),
        }
        self._degraded = self._of_families(self._gauge("sync_proxy_rules_services_degraded"))
        self._no_local = self._gauge("sync_proxy_rules_no_local_endpoints_total", "traffic_policy")
        self._conntrack_seconds = self._histogram("conntrack_reconciler_sync_duration_seconds", DURATION_BUCKETS)
        self._conntrack_deleted = self._counter("conntrack_reconciler_deleted_entries")
        self._rules = {kind: self._gauge(name, "table") for kind, name in own.rules.items()}
        self._failures = [self._counter(name) for name in own.failures]
        self._partial_failures = [self._counter(name) for name in own.partial_failures]
        for name in own.never_counted:
            self._counter(name)
        self.healthz = Counter("kubeproxy_proxy_healthz", _HELP["healthz"], ["code"], registry=self.registry)
        self.livez = Counter("kubeproxy_proxy_livez", _HELP["livez"], ["code"], registry=self.registry)
        self._unauthorized = self._shared(Gauge, "api_unauthorized")
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
        """A sync was requested at `now`, in seconds since 1970."""
        for family in self._families:
            self._queued.labels(family).set(now)

    def changed(self, resource: str, number: int) -> None:
        """Count changes: those of Services in each family, those of EndpointSlices in their own (MET-03)."""
        if resource in self._changes:
            self._changes[resource].inc(number * (len(self._families) if resource == "services" else 1))
            self._pending[resource].inc(number)

    def taken(self) -> None:
        """A sync started with all changes so far."""
        for gauge in self._pending.values():
            gauge.set(0)

    def attempted(self, family: int, seconds: float, full: bool) -> None:
        """Record the duration of a family's sync, whether or not it succeeded (MET-07)."""
        self._durations["duration"].labels(IP_FAMILY[family]).observe(seconds)
        kind = "full" if full else "partial"
        if kind in self._durations:
            self._durations[kind].labels(IP_FAMILY[family]).observe(seconds)

    def failed(self, family: int, full: bool) -> None:
        """Count a failed sync of a family."""
        for counter in self._failures if full else [*self._failures, *self._partial_failures]:
            counter.labels(IP_FAMILY[family]).inc()

    def degraded(self, family: int, services: int) -> None:
        """Set the number of degraded Services."""
        self._degraded.labels(IP_FAMILY[family]).set(services)

    def programmed(self, family: int, waits: Iterable[float]) -> None:
        """Record the seconds from each trigger to the end of its sync (MET-04)."""
        for wait in waits:
            self._programming.labels(IP_FAMILY[family]).observe(wait)

    def without_local(self, family: int, counts: dict[str, int]) -> None:
        """Set the number of ports, or Services, of policy Local without a local endpoint, by policy (MET-05)."""
        for policy, count in counts.items():
            self._no_local.labels(IP_FAMILY[family], policy).set(count)

    def rules(self, family: int, total: Mapping[str, int], last: Mapping[str, int]) -> None:
        """Set the number of rules in a full program, and in the last one, by table (MET-06)."""
        for kind, counts in (("total", total), ("last", last)):
            for table, count in counts.items():
                self._rules[kind].labels(IP_FAMILY[family], table).set(count)

    def conntrack(self, family: int, seconds: float, removed: int) -> None:
        """Record the removal of stale UDP flows and its duration (CT-05)."""
        self._conntrack_seconds.labels(IP_FAMILY[family]).observe(seconds)
        self._conntrack_deleted.labels(IP_FAMILY[family]).inc(removed)

    def add_localhost(self, rejected: Callable[[], Mapping[tuple[int, str], int]]) -> None:
        """Add the metrics of node ports on loopback; `rejected` returns packets by family and protocol (MET-03b)."""
        self._listeners = self._of_families(self._gauge("nftables_localhost_nodeport_listeners"))
        self._listener_failures = self._counter("nftables_localhost_nodeport_listener_creation_failures")
        self.registry.register(_Rejected(rejected))

    def localhost(self, family: int, listeners: int, creation_failures: int) -> None:
        """Set the number of listeners, and count those that could not be opened in this sync."""
        self._listeners.labels(IP_FAMILY[family]).set(listeners)
        self._listener_failures.labels(IP_FAMILY[family]).inc(creation_failures)

    def succeeded(self, family: int, now: float) -> None:
        """Set the time of the last success, in seconds since 1970."""
        self._last.labels(IP_FAMILY[family]).set(now)

    def requested(self, method: str, code: str, seconds: float) -> None:
        """Record a request to the API server: its status code, or "<error>", and its duration."""
        if code.isdigit():
            self._unauthorized.set(code == "401")
        self._requests.labels(code, method, self._host).inc()
        self._request_seconds.labels(method, self._host).observe(seconds)

    def text(self) -> bytes:
        """The page for /metrics."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, buckets: Sequence[float]) -> Histogram:
        histogram = Histogram(f"kubeproxy_{name}", _help(name), ["ip_family"], registry=self.registry, buckets=buckets)
        return self._of_families(histogram)

    def _shared(self, kind: type[Metric], name: str) -> Metric:
        """A metric shared by all families, without a label."""
        return kind(f"kubeproxy_{name}", _help(name), registry=self.registry)

    def _gauge(self, name: str, *labels: str) -> Gauge:
        return Gauge(f"kubeproxy_{name}", _help(name), ["ip_family", *labels], registry=self.registry)

    def _counter(self, name: str) -> Counter:
        return self._of_families(Counter(f"kubeproxy_{name}", _help(name), ["ip_family"], registry=self.registry))

    def _of_families(self, metric: Labelled) -> Labelled:
        """The metric, with a sample of 0 for each family from the start."""
        for family in self._families:
            metric.labels(family)
        return metric


class _Rejected(Collector):
    """Counters of the kernel, read at collection."""

    def __init__(self, rejected: Callable[[], Mapping[tuple[int, str], int]]) -> None:
        self._rejected = rejected

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Called by the registry."""
        name = "nftables_localhost_nodeport_rejected_packets"
        counted = CounterMetricFamily(f"kubeproxy_{name}", _help(name), labels=["ip_family", "protocol"])
        for (family, protocol), packets in self._rejected().items():
            counted.add_metric([IP_FAMILY[family], protocol], packets)
        return [counted]


class _OfMode(NamedTuple):
    """Names of the metrics that only some modes have; `rules` by kind, with label table."""

    failures: tuple[str, ...] = ()
    partial_failures: tuple[str, ...] = ()
    rules: Mapping[str, str] = MappingProxyType({})
    never_counted: tuple[str, ...] = ()


_RESTORE_FAILURES = "sync_proxy_rules_iptables_restore_failures"
_OF_MODE = {
    "iptables": _OfMode(
        failures=(_RESTORE_FAILURES,),
        partial_failures=("sync_proxy_rules_iptables_partial_restore_failures",),
        rules={"total": "sync_proxy_rules_iptables_total", "last": "sync_proxy_rules_iptables_last"},
    ),
    "ipvs": _OfMode(failures=(_RESTORE_FAILURES,)),
    "nftables": _OfMode(
        failures=("sync_proxy_rules_nftables_sync_failures",),
        # Exists for alerts; stale objects are removed in the sync's own transaction, and fail with it.
        never_counted=("sync_proxy_rules_nftables_cleanup_failures",),
    ),
}

_HELP = {
    "healthz": "Responses of /healthz by code",
    "livez": "Responses of /livez by code",
    "requests": "Requests to the API server by code, method and host",
    "request_seconds": "Seconds until the API server's response began, by verb and host",
}


def _help(name: str) -> str:
    return name.replace("_", " ").capitalize()
