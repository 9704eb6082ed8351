"""Which flows are stale, for any cluster's history: the tracker against brute force over the manifests."""

from __future__ import annotations

import itertools
import json
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import ProxyConfig
from engine.conntrack import FlowTracker
from engine.dataplane import Dataplane
from engine.tracking import ClusterState

from ..cases.clusters import CIP, end, service, slice_
from ..cases.strategies import LOCAL, clusters
from ..cases.test_differential import walk

UDP_53 = {"name": "dns", "port": 53, "protocol": "UDP"}
Flow = tuple[tuple[str, int], tuple[str, int]]
"""Where the client sent it, who answers."""


class Node:
    """A tracker for one family, a table of flows, and the same table by brute force."""

    def __init__(self, version: tuple[int, int], flows: set[Flow]) -> None:
        config = ProxyConfig(version=version)
        self.state = ClusterState("n1")
        self.raw: dict[tuple[str, str], dict] = {}
        self.families = {f: (Dataplane(f, config), FlowTracker(f, config)) for f in (4, 6)}
        self.table, self.expected = set(flows), set(flows)
        self._stale = stale_now if version >= (1, 32) else stale_by_change
        self._before: list[dict] = []

    def observe(self, event: tuple[str, str, bytes]) -> None:
        self.state.observe(*event)
        manifest = json.loads(event[2])
        self.raw.pop((event[1], manifest["metadata"]["name"]), None)
        if event[0] != "DELETED":
            self.raw[event[1], manifest["metadata"]["name"]] = manifest

    def sync(self) -> None:
        """Clean both tables."""
        dirty = self.state.take_dirty()
        for family, (dataplane, tracker) in self.families.items():
            dataplane.update(self.state, dirty)
            stale = tracker.update(self.state, dirty, dataplane.plans)
            ours = {flow for flow in self.table if (":" in flow[0][0]) == (family == 6)}
            self.table -= {flow for flow in ours if stale and stale(packed(flow[0]), packed(flow[1]))}
        after = list(ports(self.raw))
        self.expected -= {flow for flow in self.expected if self._stale(flow, self._before, after)}
        self._before = after


def packed(end: tuple[str, int]) -> bytes:
    return ip_address(end[0]).packed + end[1].to_bytes(2, "big")


def ports(raw: dict) -> list[dict]:
    """Every UDP port of every Service in each of its families, from the manifests alone."""
    found = []
    for (resource, name), manifest in raw.items():
        spec = manifest["spec"] if resource == "services" else {}
        if not spec or spec["clusterIP"] == "None" or spec["type"] == "ExternalName":
            continue
        for family, cluster_ip in zip(spec["ipFamilies"], spec["clusterIPs"], strict=True):
            ingress = manifest["status"]["loadBalancer"]["ingress"]
            outside = spec.get("externalIPs", []) + [i["ip"] for i in ingress if i["ipMode"] != "Proxy"]
            ips = [cluster_ip, *(ip for ip in outside if (":" in ip) == (":" in cluster_ip))]
            for port in (port for port in spec["ports"] if port["protocol"] == "UDP"):
                listed = endpoints(raw, name, family, port["name"])
                serving = {end for end, is_serving in listed.items() if is_serving}
                key, node_port = (name, family, port["name"]), port.get("nodePort", 0)
                found.append({"id": key, "ips": ips, "port": port["port"], "node_port": node_port,
                              "listed": set(listed), "serving": serving})  # fmt: skip
    return found


def endpoints(raw: dict, service: str, family: str, port_name: str) -> dict[tuple[str, int], bool]:
    """Whether each serves; of duplicates the last on this node counts, else the first."""
    seen: dict[tuple[str, int], list[dict]] = {}
    for (resource, _), piece in sorted(raw.items()):
        if resource != "endpointslices" or piece["metadata"]["labels"]["kubernetes.io/service-name"] != service:
            continue
        for port in piece["ports"] if piece["addressType"] == family else ():
            if (port["name"], port["protocol"]) == (port_name, "UDP"):
                for each in piece["endpoints"]:
                    seen.setdefault((each["addresses"][0], port["port"]), []).append(each)
    chosen = {end: [e for e in each if e.get("nodeName") == "n1"][-1:] or each[:1] for end, each in seen.items()}
    return {end: each["conditions"].get("serving") is not False for end, (each,) in chosen.items()}


def same_family(flow: Flow, port: dict) -> bool:
    return (":" in flow[0][0]) == (":" in port["ips"][0])


def stale_now(flow: Flow, _before: list[dict], after: list[dict]) -> bool:
    """CT-04."""
    (address, number), replier = flow
    serving = [p for p in after if p["serving"] and same_family(flow, p)]
    exact = [p for p in serving if address in p["ips"] and number == p["port"]]
    by_node_port = [p for p in serving if number == p["node_port"]]
    return any(replier not in p["serving"] for p in exact or by_node_port)


def stale_by_change(flow: Flow, before: list[dict], after: list[dict]) -> bool:
    """CT-02: a removed port's cluster IP, a newly served port, and translations to endpoints that are gone."""
    (address, number), replier = flow
    old, new = ({p["id"]: p for p in side if same_family(flow, p)} for side in (before, after))
    if any(address == p["ips"][0] for key, p in old.items() if key not in new):
        return True
    for key, port in new.items():
        if address not in port["ips"] and number != port["node_port"]:
            continue
        was = old.get(key, {"serving": set()})
        gone = was["serving"] - port["listed"]
        if port["serving"] and not was["serving"] or (replier[0] in {e[0] for e in gone} and flow[0] != replier):
            return True
    return False


def all_flows(*histories: list[tuple[str, str, bytes]]) -> set[Flow]:
    """To every address that is ever a Service's, or the node's, from every endpoint and untranslated."""
    destinations, ends = set(), set()
    for event in itertools.chain(*histories):
        manifest = json.loads(event[2])
        if event[1] == "services":
            for port in ports({("services", "x"): manifest}):
                reached = [(ip, number) for ip in port["ips"] for number in (port["port"], 9999)]
                destinations |= {*reached, *((ip, port["node_port"]) for ip in LOCAL if port["node_port"])}
        elif event[1] == "endpointslices":
            ends |= {(e["addresses"][0], number) for e in manifest["endpoints"] for number in (8053, 8054)}
    return {(to, end) for to in destinations for end in (ends | {to}) if (":" in to[0]) == (":" in end[0])}


@pytest.mark.parametrize("version", [(1, 35), (1, 31)])
@given(events=clusters(), again=clusters(), syncs=st.frozensets(st.integers(0, 40)))
def test_what_is_removed_is_what_brute_force_finds(version, events, again, syncs):
    path, _ = walk(events, again)
    node = Node(version, all_flows(events, again))
    for number, event in enumerate(path):
        node.observe(event)
        if number in syncs:
            node.sync()
            assert node.table == node.expected
    node.sync()
    assert node.table == node.expected


def test_a_services_own_address_says_more_than_a_node_port_of_the_same_number():
    """A cluster IP's port may be some other Service's node port; both have flows that stay."""
    flows = {((CIP, 30001), ("10.1.0.1", 53)), (("192.168.0.2", 30001), ("10.1.0.2", 53))}
    node = Node((1, 35), flows)
    for name, ip, port, node_port in (("own", CIP, 30001, 0), ("other", "172.30.0.2", 53, 30001)):
        piece = slice_(end(f"10.1.0.{1 + (name == 'other')}"), name=name, of=name, ports=[UDP_53])
        for manifest in (service(name=name, ip=ip, ports=[("dns", "UDP", port, node_port)]), piece):
            resource = "endpointslices" if manifest is piece else "services"
            node.observe(("ADDED", resource, json.dumps(manifest).encode()))
    node.sync()
    assert node.table == node.expected == flows


@pytest.mark.parametrize(("version", "left"), [((1, 31), True), ((1, 35), False)])
def test_an_endpoint_that_stays_listed_but_serves_no_more(version, left):
    """By older rules it has not been removed, so its flows stay; by newer ones they go."""
    flow = (CIP, 53), ("10.1.0.1", 53)
    node = Node(version, set())
    node.observe(("ADDED", "services", json.dumps(service(ports=[("dns", "UDP", 53, 0)])).encode()))
    for ready in (True, "gone"):
        piece = slice_(end("10.1.0.1", ready=ready), end("10.1.0.2"), ports=[UDP_53])
        node.observe(("MODIFIED", "endpointslices", json.dumps(piece).encode()))
        node.sync()
        node.table, node.expected = ({flow}, {flow}) if ready is True else (node.table, node.expected)
    assert node.table == node.expected == ({flow} if left else set())
