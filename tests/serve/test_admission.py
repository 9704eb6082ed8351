"""Admission of clients' Services, slices and nodes: defaults, allocation, validation."""

from __future__ import annotations

import pytest

from harness.apiserver import LiveApi, StatusError
from harness.apiserver.admission import Admission
from harness.apiserver.kubeconfig import write_kubeconfig
from harness.apiserver.live import LiveStore
from tests.serve.conftest import ask

NETWORKS = ("10.112.0.0/16", "fd00:10:112::/112")
HTTP = {"port": 80}


@pytest.fixture
def store() -> LiveStore:
    return LiveStore(admission=Admission(NETWORKS))


def service(name: str = "web", **spec) -> dict:
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": {"ports": [HTTP], **spec}}


def piece(*addresses: str, ports=(), **more) -> dict:
    endpoints = [{"addresses": [address]} for address in addresses]
    return {
        "metadata": {"name": "web-1", "namespace": "shop"}, "addressType": "IPv4", "endpoints": endpoints,
        "ports": list(ports), **more,
    }  # fmt: skip


def test_a_minimal_service_gets_its_defaults(store):
    assert store.create("services", service())["spec"] == {
        "type": "ClusterIP", "clusterIP": "10.112.255.254", "clusterIPs": ["10.112.255.254"],
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None", "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}],
    }  # fmt: skip
    assert store.create("services", service("next"))["spec"]["clusterIP"] == "10.112.255.253"


def test_a_load_balancer_with_policy_local_gets_all_its_ports(store):
    ports = [{"name": "tcp", "port": 53}, {"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "web", "port": 80}]
    spec = store.create("services", service(type="LoadBalancer", externalTrafficPolicy="Local", ports=ports))["spec"]
    assert [port["nodePort"] for port in spec["ports"]] == [32767, 32767, 32766]
    assert spec["healthCheckNodePort"] == 32765 and spec["allocateLoadBalancerNodePorts"] is True


def test_families(store):
    both = store.create("services", service(ipFamilyPolicy="RequireDualStack"))["spec"]
    assert both["ipFamilies"] == ["IPv4", "IPv6"]
    assert both["clusterIPs"] == [both["clusterIP"], "fd00:10:112::ffff"] == ["10.112.255.254", "fd00:10:112::ffff"]
    six = store.create("services", service("six", ipFamilies=["IPv6"]))["spec"]
    assert six["clusterIP"].startswith("fd00:10:112::") and six["clusterIPs"] == [six["clusterIP"]]
    none = store.create("services", service("none", clusterIP="None", ports=[]))["spec"]
    assert none["clusterIPs"] == ["None"] and none["ipFamilies"] == ["IPv4"]
    name = store.create("services", service("name", type="ExternalName", externalName="example.org", ports=[]))["spec"]
    assert "clusterIP" not in name and "ipFamilies" not in name


def test_an_update_keeps_allocated_fields_and_a_new_type_drops_them(store):
    made = store.create("services", service(type="NodePort"))["spec"]
    again = store.update("services", service(type="NodePort", selector={"app": "web"}))["spec"]
    assert again == made | {"selector": {"app": "web"}}
    inside = store.patch("services", "web", "shop", lambda old: old | {"spec": old["spec"] | {"type": "ClusterIP"}})
    assert "nodePort" not in inside["spec"]["ports"][0] and "externalTrafficPolicy" not in inside["spec"]
    name = {"type": "ExternalName", "externalName": "example.org"}
    outside = store.patch("services", "web", "shop", lambda old: old | {"spec": old["spec"] | name})
    assert "clusterIP" not in outside["spec"]
    back = store.update("services", service())["spec"]
    assert back["clusterIP"] == made["clusterIP"], "it was free again"


def test_writes_of_the_control_plane_bypass_admission(store):
    store.apply(
        "services", service("own", clusterIP="10.112.255.254", type="NodePort", ports=[HTTP | {"nodePort": 32767}])
    )
    spec = store.create("services", service(type="NodePort"))["spec"]
    assert (spec["clusterIP"], spec["ports"][0]["nodePort"]) == ("10.112.255.253", 32766)


BAD_SERVICES = {
    "no ports": ({"ports": []}, "spec.ports: Required value"),
    "port": ({"ports": [{"port": 0}]}, "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
    "target": ({"ports": [{"port": 1, "targetPort": "Web"}]}, "spec.ports[0].targetPort: Invalid value: \"Web\""),
    "protocol": (
        {"ports": [{"port": 1, "protocol": "tcp"}]},
        'spec.ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"',
    ),
    "nameless": ({"ports": [{"name": "a", "port": 1}, {"port": 2}]}, "spec.ports[1].name: Required value"),
    "one name": (
        {"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}, 'spec.ports[1].name: Duplicate value: "a"',
    ),
    "name": ({"ports": [{"name": "A_b", "port": 1}]}, "spec.ports[0].name: Invalid value: \"A_b\": a low"),
    "one port": (
        {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]},
        'spec.ports[1]: Duplicate value: {"protocol":"TCP","port":1}',
    ),
    "node port inside": (
        {"ports": [{"port": 1, "nodePort": 30001}]},
        "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
    ),
    "node port out of range": (
        {"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]},
        "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of",
    ),
    "node port taken": (
        {"type": "NodePort", "ports": [{"port": 1, "nodePort": 30080}]},
        "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated",
    ),
    "address taken": (
        {"clusterIP": "10.112.0.10"},
        'Invalid value: ["10.112.0.10"]: failed to allocate IP 10.112.0.10: provided IP is already allocated',
    ),
    "address out of range": ({"clusterIP": "10.96.0.1"}, "the range of valid IPs is 10.112.0.0/16"),
    "no address": ({"clusterIP": "10.112.0"}, 'spec.clusterIPs[0]: Invalid value: "10.112.0": must be a valid IP'),
    "another family": (
        {"clusterIP": "fd00:10:112::5", "ipFamilies": ["IPv4"]},
        "expected an IPv4 value as indicated by `ipFamilies[0]`",
    ),
    "family": ({"ipFamilies": ["IPv5"]}, 'spec.ipFamilies[0]: Unsupported value: "IPv5"'),
    "single and two": (
        {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "SingleStack"}, "must be RequireDualStack or Prefer",
    ),
    "type": ({"type": "Internal"}, 'spec.type: Unsupported value: "Internal"'),
    "external name": ({"type": "ExternalName", "ports": []}, "spec.externalName: Required value"),
    "headless balancer": (
        {"type": "LoadBalancer", "clusterIP": "None"}, "may not be set to 'None' for LoadBalancer services",
    ),
    "affinity": ({"sessionAffinity": "clientip"}, 'spec.sessionAffinity: Unsupported value: "clientip"'),
    "affinity time": (
        {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401",
    ),
    "policy": ({"internalTrafficPolicy": "local"}, 'spec.internalTrafficPolicy: Unsupported value: "local"'),
    "policy inside": ({"externalTrafficPolicy": "Local"}, "may only be set for externally-accessible services"),
    "health check": ({"healthCheckNodePort": 30001}, "spec.healthCheckNodePort: Invalid value: 30001"),
    "distribution": ({"trafficDistribution": "Near"}, 'spec.trafficDistribution: Unsupported value: "Near"'),
    "external": ({"externalIPs": ["127.0.0.1"]}, "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in"),
    "ranges": (
        {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/33"]},
        "spec.loadBalancerSourceRanges[0]: Invalid value",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "said"), BAD_SERVICES.values(), ids=BAD_SERVICES)
def test_a_bad_service_is_rejected_with_field_and_reason(store, spec, said):
    taken = service("taken", type="NodePort", clusterIP="10.112.0.10", ports=[{"port": 80, "nodePort": 30080}])
    store.create("services", taken)
    with pytest.raises(StatusError) as refused:
        store.create("services", service(**spec))
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    assert said in refused.value.message
    cause = refused.value.details["causes"][0]
    assert cause["field"] and cause["reason"].startswith("FieldValue")


BAD_SLICES = {
    "address type": (piece("10.0.0.1", addressType=""), "addressType: Required value"),
    "no addresses": (piece(endpoints=[{}]), "endpoints[0].addresses: Required value: must contain at least 1 address"),
    "family": (piece("fd00::1"), 'endpoints[0].addresses[0]: Invalid value: "fd00::1": must be a valid IPv4 address'),
    "loopback": (piece("10.0.0.1", "127.0.0.1"), 'endpoints[1].addresses[0]: Invalid value: "127.0.0.1"'),
    "one name": (piece("10.0.0.1", ports=[{"port": 1}, {"port": 2}]), 'ports[1].name: Duplicate value: ""'),
    "port": (piece("10.0.0.1", ports=[{"port": 70000}]), "ports[0].port: Invalid value: 70000"),
    "protocol": (piece("10.0.0.1", ports=[{"protocol": "ICMP"}]), "ports[0].protocol: Unsupported value"),
    "many": (piece(*["10.0.0.1"] * 1001), "endpoints: Too many: 1001: must have at most 1000 items"),
}


@pytest.mark.parametrize(("manifest", "said"), BAD_SLICES.values(), ids=BAD_SLICES)
def test_a_bad_slice_is_rejected_with_field_and_reason(store, manifest, said):
    with pytest.raises(StatusError, match='EndpointSlice.discovery.k8s.io "web-1" is invalid') as refused:
        store.create("endpointslices", manifest)
    assert refused.value.code == 422 and said in refused.value.message


def test_a_slice_gets_its_defaults_and_keeps_its_address_type(store):
    made = store.create("endpointslices", piece("10.0.0.1", ports=[{"port": 80}]))
    assert made["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]
    with pytest.raises(StatusError, match='addressType: Invalid value: "IPv6": field is immutable'):
        store.update("endpointslices", piece("fd00::1", addressType="IPv6"))


def test_immutable_fields_are_rejected(store):
    store.create("services", service())
    with pytest.raises(StatusError, match='spec.clusterIPs.0.: Invalid value: "10.112.0.9": may not change once set'):
        store.update("services", service(clusterIP="10.112.0.9"))
    node = {"metadata": {"name": "n"}, "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}}
    store.create("nodes", node)
    with pytest.raises(StatusError, match="spec.podCIDRs: Forbidden"):
        store.update("nodes", node | {"spec": {"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24"]}})


def test_a_balancers_address_has_a_mode(store):
    store.create("services", service(type="LoadBalancer"))
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    done = store.patch("services", "web", "shop", lambda old: old | ingress, "status")
    assert done["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.1", "ipMode": "VIP"}]
    ingress["status"]["loadBalancer"]["ingress"][0]["ip"] = "192.0.2"
    with pytest.raises(StatusError, match="status.loadBalancer.ingress.0..ip: Invalid value"):
        store.patch("services", "web", "shop", lambda old: old | ingress, "status")


def test_types_are_validated_first(store):
    with pytest.raises(
        StatusError, match="cannot be handled as a Service: Expected `int . null`, got `str`"
    ) as refused:
        store.create("services", service(ports=[{"port": "80"}]))
    assert refused.value.code == 400


MANIFESTS = """\
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: shop}
spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, namespace: shop, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
endpoints: [{addresses: [10.120.1.9]}]
ports: [{name: http, port: 8080}]
"""


def test_kubectl_creates_applies_and_gets_errors_with_reasons(store, kubectl, tmp_path):
    file = tmp_path / "manifests.yaml"
    file.write_text(MANIFESTS)
    with LiveApi(store) as api:
        write_kubeconfig(path := tmp_path / "kubeconfig", api.kubeconfig())
        kubectl(path, "create", "service", "clusterip", "a", "--tcp=80:8080")
        kubectl(path, "create", "service", "nodeport", "b", "--tcp=80:8080", "--node-port=30090")
        kubectl(path, "create", "service", "loadbalancer", "c", "--tcp=80")
        kubectl(path, "create", "service", "externalname", "d", "--external-name=example.org")
        said = kubectl(path, "create", "service", "nodeport", "e", "--tcp=80", "--node-port=30090", code=1)
        assert "30090: provided port is already allocated" in said
        kubectl(path, "apply", "-f", str(file))
        first = store.get("services", "shop", "shop")["spec"]
        file.write_text(MANIFESTS.replace("port: 80,", "port: 81,"))
        assert "service/shop configured" in kubectl(path, "apply", "-f", str(file))
        kubectl(path, "apply", "-f", str(file), "--dry-run=server")
        file.write_text(MANIFESTS.replace("port: 80,", "port: 0,"))
        assert 'The Service "shop" is invalid' in kubectl(path, "apply", "-f", str(file), code=1)
        kubectl(path, "patch", "service", "b", "-p", '{"spec":{"type":"ClusterIP"}}')
    changed = store.get("services", "shop", "shop")["spec"]
    assert changed["clusterIP"] == first["clusterIP"] and changed["ports"][0]["port"] == 81
    assert 30000 <= changed["ports"][0]["nodePort"] <= 32767
    assert "nodePort" not in store.get("services", "b", "default")["spec"]["ports"][0]
    assert "clusterIP" not in store.get("services", "d", "default")["spec"]


def test_an_invalid_service_over_http_is_a_status_with_causes(store):
    with LiveApi(store) as api:
        answer = ask(f"{api.url}/api/v1/namespaces/shop/services", "POST", service(ports=[{"port": 0}]))
    assert answer.code == 422
    cause = {"reason": "FieldValueInvalid", "field": "spec.ports[0].port"}
    assert cause.items() <= answer.body["details"]["causes"][0].items()
