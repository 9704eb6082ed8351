"""What load balancers, Prometheus and operators read from the daemon."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.request

import pytest

from engine.server.http.servers import Answer, HttpListener
from harness.conformance.corpus.clusters import end, node, service, slice_
from tests.server.lab import ADDRESS, API_PORT, HCNP, HEALTHZ, METRICS, NODE, eventually

BALANCED = service(
    "LoadBalancer",
    lb=["1.2.3.4"],
    externalTrafficPolicy="Local",
    internalTrafficPolicy="Local",
    healthCheckNodePort=HCNP,
)
HERE = slice_(
    end("10.180.0.1", NODE), end("10.180.0.2", NODE), end("10.180.0.3", NODE, "draining"), end("10.180.1.1", "n2")
)
ELSEWHERE = slice_(end("10.180.1.1", "n2"))
OBJECTS = [node(), BALANCED, HERE]
TAINT = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}


def test_health_check_node_ports(lab):
    """Local ready endpoints, each address once (EPS-11), on all addresses, any path and method (HC-01 to HC-04)."""
    lab.start(OBJECTS, [("MODIFIED", ELSEWHERE), ("DELETED", BALANCED)])
    # A port opens with no endpoint counted, an instant before they are (HC-04).
    eventually(lambda: lab.says(HCNP, "/", 200, ADDRESS), "the port")
    answer = lab.health_check("/any/path", "POST")
    assert answer.status == 200
    assert answer.headers["x-load-balancing-endpoint-weight"] == "2"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json() == {
        "service": {"namespace": "ns", "name": "s1"}, "localEndpoints": 2, "serviceProxyHealthy": True,
    }  # fmt: skip
    assert b'\n\t"localEndpoints": 2,' in answer.body
    lab.step()
    gone = eventually(lambda: lab.says(HCNP, "/", 503, ADDRESS), "no local endpoint any more")
    assert gone.headers["x-load-balancing-endpoint-weight"] == "0"
    lab.step()
    eventually(lambda: lab.health_check("/") is None, "the port's end")


def test_a_health_check_port_that_is_taken_is_tried_again(lab):
    """At each sync (HC-05); reported by an Event on the Service."""
    with lab.namespace.socket(2, 1) as other:
        other.bind((ADDRESS, HCNP))
        other.listen()
        daemon = lab.start(OBJECTS, [("MODIFIED", ELSEWHERE)])
        daemon.says("Failed to start healthcheck")
    lab.step()
    assert eventually(lambda: lab.health_check("/"), "the port").status == 503


@pytest.mark.parametrize("change", [{"spec": {"taints": [TAINT]}}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}])
def test_a_node_to_be_deleted_is_not_healthy(lab, change):
    """/healthz says so and /livez does not (HC-07 to HC-09); it recovers, and a deleted Node is as it was last."""
    going = node(**change) if "spec" in change else {**node(), "metadata": node()["metadata"] | change}
    lab.record(OBJECTS, [("MODIFIED", going), ("DELETED", going), ("ADDED", node())])
    lab.serve()
    lab.daemon("--kube-version", "1.36")  # from 1.37 on a deleted Node ends the process (CLN-07)
    lab.converges()
    well = eventually(lambda: lab.says(HEALTHZ, "/healthz", 200), "eligible")
    assert (well.status, well.json()["nodeEligible"]) == (200, True)
    assert well.json()["lastUpdated"] == well.json()["currentTime"]
    assert well.headers["content-type"] == "application/json"
    lab.step()
    going = eventually(lambda: lab.says(HEALTHZ, "/healthz", 503), "not eligible")
    assert going.json()["nodeEligible"] is False
    alive = lab.http(HEALTHZ, "/livez")
    assert alive.status == 200
    assert set(alive.json()) == {"lastUpdated", "currentTime", "healthy", "status"}
    assert going.json()["healthy"] is True, "which does not ask whether the node is to go (HC-07a)"
    assert {family: state["healthy"] for family, state in alive.json()["status"].items()} == {
        "IPv4": True,
        "IPv6": True,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", alive.json()["status"]["IPv4"]["lastUpdated"])
    assert lab.health_check("/").status == 200, "Services' own checks do not ask (HC-02)"
    lab.step()
    time.sleep(0.3)
    assert lab.http(HEALTHZ, "/healthz").status == 503
    lab.step()
    eventually(lambda: lab.says(HEALTHZ, "/healthz", 200), "eligible again")
    assert lab.http(HEALTHZ, "/other").status == 404


def test_an_update_that_waits_too_long_is_unhealthy(lab):
    """Longer than twice the sync period (HC-06): the kernel refuses, since someone owns the table's name."""
    daemon = lab.start(OBJECTS, [("MODIFIED", ELSEWHERE)], periods={"syncPeriod": "500ms"})
    lab.forbid_nft()
    lab.step()
    daemon.says("Sync failed")
    for path in ("/healthz", "/livez"):
        eventually(lambda path=path: lab.says(HEALTHZ, path, 503), path)
    assert lab.health_check("/").status == 503
    assert lab.http(HEALTHZ, "/healthz").json()["nodeEligible"] is True
    counts = lab.metrics()
    assert counts['kubeproxy_proxy_healthz_total{code="503"}'] >= 1
    lab.allow_nft()
    eventually(lambda: lab.says(HEALTHZ, "/healthz", 200), "well again")


def test_pages_for_operators(lab):
    """/proxyMode, /configz, /healthz, /metrics/slis; no profiles unless asked for (MET-01)."""
    lab.start(OBJECTS)
    pages = {path: lab.http(METRICS, path) for path in ("/proxyMode", "/healthz", "/configz", "/metrics/slis")}
    assert pages["/proxyMode"].body == b"nftables"
    assert pages["/proxyMode"].headers["x-content-type-options"] == "nosniff"
    assert pages["/proxyMode"].headers["content-type"].startswith("text/plain")
    assert pages["/healthz"].body == b"ok"
    shown = pages["/configz"].json()["kubeproxy.config.k8s.io"]
    assert (shown["mode"], shown["clusterCIDR"]) == ("nftables", lab.pods)
    assert (shown["kind"], shown["apiVersion"]) == ("KubeProxyConfiguration", "kubeproxy.config.k8s.io/v1alpha1")
    status, flags = (lab.http(METRICS, path).body.decode() for path in ("/statusz", "/flagz"))
    assert status.startswith("\nkube-proxy statusz\n")
    assert re.search(r"^Up: 0 hr 0\d min \d\d sec$", status, re.M) and "Emulation version: 1.37\n" in status
    assert flags.startswith("\nkube-proxy flagz\n")
    assert f"\ncluster-cidr={lab.pods}\n" in flags and "\nproxy-mode=nftables\n" in flags
    assert b"kubernetes_healthcheck" in pages["/metrics/slis"].body
    assert lab.http(METRICS, "/debug/threads").status == 404
    assert lab.http(METRICS, "/metrics", "HEAD").body == b""


def test_metrics_show_what_happened(lab):
    """kube-proxy's names and labels (MET-02 to MET-05)."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    triggered = {**ELSEWHERE, "metadata": ELSEWHERE["metadata"] | {"annotations": {TRIGGER: now}}}
    bad = {**HERE, "metadata": HERE["metadata"] | {"annotations": {TRIGGER: "yesterday"}}}
    daemon = lab.start(OBJECTS, [("MODIFIED", triggered), ("MODIFIED", bad)])
    before = lab.metrics()
    assert before[family("sync_proxy_rules_duration_seconds_count")] == 1
    assert before[family("sync_full_proxy_rules_duration_seconds_count")] == 1
    assert before[family("sync_proxy_rules_no_local_endpoints_total", 'traffic_policy="external"')] == 0
    assert before[family("network_programming_duration_seconds_count")] == 0
    lab.step()
    lab.converges()
    after = eventually(lambda: (m := lab.metrics())[family("sync_proxy_rules_duration_seconds_count")] == 2 and m, "2")
    assert after[family("sync_partial_proxy_rules_duration_seconds_count")] == 1
    assert after[family("sync_proxy_rules_no_local_endpoints_total", 'traffic_policy="external"')] == 1
    assert after[family("sync_proxy_rules_no_local_endpoints_total", 'traffic_policy="internal"')] == 1
    assert after["kubeproxy_sync_proxy_rules_endpoint_changes_total"] == 2, "each slice in its own family"
    assert after["kubeproxy_sync_proxy_rules_endpoint_changes_pending"] == 0
    assert after["kubeproxy_sync_proxy_rules_service_changes_total"] == 2, "a Service in each"
    assert after[family("sync_proxy_rules_services_degraded")] == 0
    assert after[family("network_programming_duration_seconds_count")] == 1
    for name in ("last_timestamp", "last_queued_timestamp"):
        assert abs(after[family(f"sync_proxy_rules_{name}_seconds")] - time.time()) < 60
    host = f'host="127.0.0.1:{API_PORT}"'
    assert after[f'rest_client_requests_total{{code="200",{host},method="GET"}}'] >= 6
    assert after[f'rest_client_request_duration_seconds_count{{{host},verb="GET"}}'] >= 6
    assert after[family("sync_proxy_rules_nftables_cleanup_failures_total")] == 0
    lab.step()
    daemon.says("Error while parsing EndpointsLastChangeTriggerTime annotation")


TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


def family(name: str, *more: str) -> str:
    """A sample of IPv4."""
    labels = ",".join(('ip_family="IPv4"', *more))
    return f"kubeproxy_{name}{{{labels}}}"


def test_pages_by_version(lab):
    """MET-09, MET-10, MODE-01a, MET-11: before 1.36 no such pages, before 1.37 no warning of a default."""
    lab.record(OBJECTS)
    lab.serve()
    older = lab.daemon("--kube-version", "1.35", mode="")
    older.says("Synced proxy rules")
    assert [lab.http(METRICS, path).status for path in ("/statusz", "/flagz")] == [404, 404]
    assert "kind" not in lab.http(METRICS, "/configz").json()["kubeproxy.config.k8s.io"]
    eventually(lambda: "Starting" in lab.events(), "the first Event")
    assert "KubeProxyDefaultMode" not in lab.events()
    assert older.end() == 0
    lab.daemon("--kube-version", "1.37", mode="").says("Synced proxy rules")
    eventually(lambda: "KubeProxyDefaultMode" in lab.events(), "the warning")


def test_an_address_that_is_taken(lab):
    """Tried again until it is free (HC-11), or the end of the process with bindAddressHardFail."""
    with lab.namespace.socket(2, 1) as other:
        other.bind(("0.0.0.0", HEALTHZ))
        other.listen()
        lab.record(OBJECTS)
        lab.serve()
        strict = lab.daemon(bindAddressHardFail=True)
        assert strict.popen.wait(60) == 1
        strict.says("healthz server failed: failed to start proxy healthz")
        daemon = lab.daemon()
        daemon.says(f"failed to start proxy healthz on 0.0.0.0:{HEALTHZ}")
        assert daemon.popen.poll() is None
        eventually(lambda: "Starting" in lab.events(), "the Events")
        assert "FailedToStartProxierHealthcheck" in lab.events(), "of the one that gave up (HC-11a)"
    assert eventually(lambda: lab.http(HEALTHZ, "/healthz"), "the address").status == 200


def test_logs_are_structured(lab):
    """One line per event, JSON when asked for."""
    daemon = lab.start(OBJECTS, logging={"format": "json", "verbosity": 2})
    daemon.says("Synced proxy rules")
    lines = [json.loads(line) for line in daemon.text().splitlines()]
    synced = next(line for line in lines if line["msg"] == "Synced proxy rules")
    assert synced["full"] is True
    assert synced["services"] == 1


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_every_address_is_of_both_families(host):
    """As Go listens: a kubelet or load balancer that knows the node by IPv6 is answered too (HC-01, HC-07)."""
    server = HttpListener(host, 0, lambda path, _: Answer(200, path.encode()))
    for address in ("127.0.0.1", "[::1]"):
        with urllib.request.urlopen(f"http://{address}:{server.port}/livez", timeout=10) as answer:
            assert answer.read() == b"/livez"
    server.close()


@pytest.mark.parametrize(("host", "other"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_one_address_is_of_its_own_family(host, other):
    server = HttpListener(host, 0, lambda *_: Answer(200, b""))
    with pytest.raises(ConnectionError):
        socket.create_connection((other, server.port), timeout=10)
    server.close()
