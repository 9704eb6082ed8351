"""The EndpointSlice controller's decision: the slices of a Service, computed from its pods. Pure.

Conditions as in KEP-1672: `serving` is the pod's readiness, `ready` that and not terminating, `terminating` its
deletionTimestamp.  Zone hints as requested by `spec.trafficDistribution` (KEP-4444), only if every endpoint has a zone.
"""

from __future__ import annotations

from typing import Any

from harness.kube.resources import ENDPOINT_SLICES, SERVICE_NAME, Manifest

LARGEST_SLICE = 100
"""Endpoints of one slice, the controller's --max-endpoints-per-slice."""
MANAGED_BY, OURS = "endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


def slices_of(
    service: Manifest, pods: list[Manifest], zones: dict[str, str], trigger_time: str | None = None
) -> list[Manifest]:
    """Manifests of a Service's slices; `zones` by node, `trigger_time` (RFC 3339) of the change that caused them."""
    selector = service["spec"].get("selector") or {}
    if not selector or "IPv4" not in service["spec"].get("ipFamilies", ("IPv4",)):
        return []  # pods here have no address of the other family
    chosen = sorted(
        (pod for pod in pods if _selected(pod, selector) and _address(pod)), key=lambda pod: pod["metadata"]["name"]
    )
    endpoints = [_endpoint(pod, zones) for pod in chosen]
    if service["spec"].get("trafficDistribution") in ("PreferClose", "PreferSameZone"):
        _add_hints(endpoints)
    groups: dict[tuple[int | None, ...], list[Manifest]] = {}
    for pod, endpoint in zip(chosen, endpoints, strict=True):
        groups.setdefault(_numbers(service, pod), []).append(endpoint)
    pieces = [
        (numbers, group[start : start + LARGEST_SLICE])
        for numbers, group in (groups or {_numbers(service, {}): []}).items()
        for start in range(0, len(group) or 1, LARGEST_SLICE)
    ]
    return [_slice(service, count, *piece, trigger_time) for count, piece in enumerate(pieces)]


def orphans(slices: list[Manifest], services: set[str]) -> list[str]:
    """Names of the controller's slices whose Service is not among `services`: a cluster garbage-collects them."""
    return [
        piece["metadata"]["name"]
        for piece in slices
        if piece["metadata"]["labels"].get(MANAGED_BY) == OURS
        and piece["metadata"]["labels"].get(SERVICE_NAME) not in services
    ]


def same(one: Manifest, other: Manifest) -> bool:
    """Whether two slices are equal except for their timestamps."""
    return all(one.get(field) == other.get(field) for field in ("addressType", "endpoints", "ports"))


def _selected(pod: Manifest, selector: dict[str, str]) -> bool:
    labels = pod["metadata"].get("labels") or {}
    same_namespace = all(labels.get(key) == value for key, value in selector.items())
    return same_namespace and pod["status"].get("phase") not in ("Succeeded", "Failed")


def _address(pod: Manifest) -> str | None:
    address: str | None = pod["status"].get("podIP")
    return address


def is_ready(pod: Manifest) -> bool:
    """Whether the pod's condition Ready is true."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())


def _endpoint(pod: Manifest, zones: dict[str, str]) -> Manifest:
    serving, terminating = is_ready(pod), "deletionTimestamp" in pod["metadata"]
    node = pod["spec"]["nodeName"]
    return {
        "addresses": [_address(pod)],
        "conditions": {"ready": serving and not terminating, "serving": serving, "terminating": terminating},
        "nodeName": node,
        "targetRef": {"kind": "Pod", "namespace": pod["metadata"]["namespace"], "name": pod["metadata"]["name"]},
        **({"zone": zones[node]} if node in zones else {}),
    }


def _add_hints(endpoints: list[Manifest]) -> None:
    if all("zone" in endpoint for endpoint in endpoints):
        for endpoint in endpoints:
            endpoint["hints"] = {"forZones": [{"name": endpoint["zone"]}]}


def _numbers(service: Manifest, pod: Manifest) -> tuple[int | None, ...]:
    """The pod's port number for each port of the Service; None for a named port that no container defines."""
    return tuple(_number(port, pod) for port in service["spec"].get("ports") or ())


def _number(port: dict[str, Any], pod: dict[str, Any]) -> int | None:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    protocol = port.get("protocol", "TCP")
    named = [each for c in (pod.get("spec") or {}).get("containers") or () for each in c.get("ports") or ()]
    fitting = (p for p in named if p.get("name") == target and p.get("protocol", "TCP") == protocol)
    return next((int(p["containerPort"]) for p in fitting), None)


def _slice(
    service: Manifest,
    number: int,
    numbers: tuple[int | None, ...],
    endpoints: list[Manifest],
    trigger_time: str | None,
) -> Manifest:
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    return {
        **ENDPOINT_SLICES.head,
        "metadata": {
            "namespace": namespace,
            "name": f"{name}-{number}",
            "labels": {
                SERVICE_NAME: name,
                MANAGED_BY: OURS,
            },
            **({"annotations": {TRIGGER_TIME: trigger_time}} if trigger_time else {}),
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [
            {"name": port.get("name", ""), "protocol": port.get("protocol", "TCP"), "port": found}
            for port, found in zip(service["spec"].get("ports") or (), numbers, strict=True)
            if found is not None
        ],
    }
