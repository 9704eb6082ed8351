"""Which flows are stale, for any history: the tracker against the oracle's view of each destination."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import ProxyConfig
from engine.conntrack import FlowTracker
from engine.dataplane import Dataplane
from engine.model import HostAddresses
from engine.modes import MODES
from engine.tracking import ClusterState
from harness.conformance.corpus.clusters import CIP, EXT, NODE, end, service, slice_
from harness.judge.oracle import Oracle, Settings
from harness.log.events import Event

from ..cases.strategies import LOCAL, NODE_IPS, clusters
from ..cases.test_differential import walk

UDP = 17
UDP_53 = {"name": "dns", "port": 53, "protocol": "UDP"}
STRANGERS = ("203.0.113.7", "2001:db8:9::7")
Flow = tuple[tuple[str, int], tuple[str, int]]
"""The original destination, and the endpoint that answers."""


def packed(end: tuple[str, int]) -> bytes:
    return ip_address(end[0]).packed + end[1].to_bytes(2, "big")


def host(node: tuple[str, ...] = NODE_IPS, local: tuple[str, ...] = LOCAL) -> HostAddresses:
    return HostAddresses(*(tuple(ip_address(a).packed for a in listed) for listed in (node, local)))


class Known(NamedTuple):
    """The oracle's view at one time: which endpoints may answer where, and which addresses accept node ports."""

    answers: dict[tuple[bytes, int], set[tuple[bytes, int]]]
    node_ports: dict[int, set[tuple[bytes, int]]]
    taking: frozenset[bytes]

    def of(self, destination: tuple[bytes, int]) -> set[tuple[bytes, int]] | None:
        """A Service's own address takes precedence over a node port; None if it is no Service's."""
        if destination in self.answers:
            return self.answers[destination]
        return self.node_ports.get(destination[1]) if destination[0] in self.taking else None


class Draining(Oracle):
    """Adds to each destination's endpoints those that terminate and still serve, which keep their flows."""

    def known(self, family: int) -> Known:
        held = self.behaviour(family)
        answers = {(a, n): _answers(d) for (a, protocol, n), d in held.destinations.items() if protocol == UDP}
        node_ports = {n: _answers(d) for (protocol, n), d in held.nodeports.items() if protocol == UDP}
        for name, manifest in self._objects["services"].items():
            for port in manifest["spec"]["ports"]:
                if port["protocol"] == "UDP":
                    draining = {
                        target
                        for target, each in self.endpoints(name, port, self._size).items()
                        if each["conditions"].get("terminating") and each["conditions"].get("serving") is not False
                    }
                    self._add(manifest, port, draining, answers, node_ports)
        return Known(answers, node_ports, held.node_addresses)

    def _add(self, manifest: dict, port: dict, draining: set, answers: dict, node_ports: dict) -> None:
        spec = manifest["spec"]
        ingress = [i["ip"] for i in manifest["status"]["loadBalancer"]["ingress"]]
        for text in [*spec["clusterIPs"], *spec.get("externalIPs", ()), *ingress]:
            if text != "None" and (key := (ip_address(text).packed, port["port"])) in answers:
                answers[key] |= draining
        if port.get("nodePort") in node_ports:
            node_ports[port["nodePort"]] |= draining


def _answers(destination) -> set[tuple[bytes, int]]:
    outcomes = (destination.pod, destination.node, destination.external)
    return {target for outcome in outcomes if outcome[0] == "dnat" for target in outcome[1]}


def is_stale(flow: Flow, before: Known, after: Known) -> bool:
    destination, replier = ((ip_address(a).packed, n) for a, n in flow)
    answers = after.of(destination)
    if answers is not None:
        return replier not in answers
    return replier != destination and before.of(destination) is not None


class Node:
    """A tracker for each family, a table of flows, and the same table by the oracle."""

    def __init__(self, flows: set[Flow]) -> None:
        config = ProxyConfig()
        self.state = ClusterState("n1")
        self.families = {f: (Dataplane(f, config), FlowTracker(f, config, MODES["nftables"])) for f in (4, 6)}
        self.oracle = Draining("n1", Settings(node_ips=NODE_IPS, local_addresses=LOCAL))
        self.table, self.expected = set(flows), set(flows)
        self._before = {family: Known({}, {}, frozenset()) for family in self.families}
        self.looked = 0

    def observe(self, event: tuple[str, str, bytes]) -> None:
        self.state.observe(*event)
        self.oracle.observe(Event(1, 0, event[0], event[1], msgspec.Raw(event[2])))

    def put(self, *manifests: dict, kind: str = "MODIFIED") -> None:
        """Put objects and sync the node."""
        resources = {"Service": "services", "EndpointSlice": "endpointslices"}
        for manifest in manifests:
            self.observe((kind, resources[manifest["kind"]], json.dumps(manifest).encode()))
        self.sync()

    def sync(self, addresses: HostAddresses | None = None, whole: bool = False) -> None:
        """Clean both tables."""
        dirty = self.state.take_dirty()
        for family, (dataplane, tracker) in self.families.items():
            dataplane.update(self.state, dirty)
            stale = tracker.update(self.state, dirty, dataplane.plans, addresses or host(), whole)
            self.looked += bool(stale)
            ours = {flow for flow in self.table if (":" in flow[0][0]) == (family == 6)}
            self.table -= {flow for flow in ours if stale and stale(*map(packed, flow))}
            tracker.cleaned()
            before, after = self._before[family], self.oracle.known(family)
            ours = {flow for flow in self.expected if (":" in flow[0][0]) == (family == 6)}
            self.expected -= {flow for flow in ours if is_stale(flow, before, after)}
            self._before[family] = after


def all_flows(*histories: list[tuple[str, str, bytes]]) -> set[Flow]:
    """Flows to every address of Services, the node and others, from every endpoint and untranslated."""
    destinations, ends = set(), set()
    for _, resource, raw in (event for history in histories for event in history):
        manifest = json.loads(raw)
        spec = manifest.get("spec", {})
        if resource == "services":
            ips = [*spec["clusterIPs"], *spec.get("externalIPs", ())]
            ips += [i["ip"] for i in manifest["status"]["loadBalancer"]["ingress"]]
            for port in spec["ports"]:
                destinations |= {(ip, number) for ip in ips if ip != "None" for number in (port["port"], 9999)}
                destinations |= {(ip, port["nodePort"]) for ip in (*LOCAL, *STRANGERS) if port["nodePort"]}
        elif resource == "endpointslices":
            ends |= {(e["addresses"][0], number) for e in manifest["endpoints"] for number in (8053, 8054)}
    return {(to, end) for to in destinations for end in (ends | {to}) if (":" in to[0]) == (":" in end[0])}


@given(events=clusters(), again=clusters(), syncs=st.frozensets(st.integers(0, 40)))
def test_exactly_the_flows_that_no_rule_would_choose_are_removed(events, again, syncs):
    path, _ = walk(events, again)
    node = Node(all_flows(events, again))
    for number, event in enumerate(path):
        node.observe(event)
        if number in syncs:
            node.sync()
            assert node.table == node.expected
    node.sync()
    assert node.table == node.expected


DNS = service("NodePort", ports=[("dns", "UDP", 53, 30053)], externalIPs=[EXT])
FLOWS = {
    ((to, port), (end, 53)) for to, port in ((CIP, 53), (EXT, 53), (NODE, 30053)) for end in ("10.1.0.1", "10.1.0.2")
}
UNTRANSLATED = {((to, port), (to, port)) for to, port in ((CIP, 53), (EXT, 53), (NODE, 30053))}
STRANGE = {
    (("203.0.113.7", 30053), ("203.0.113.7", 30053)),
    (("203.0.113.7", 30053), ("10.1.0.9", 53)),
    (("127.0.0.1", 30053), ("127.0.0.1", 30053)),
    ((CIP, 54), ("10.1.0.1", 53)),
}
BOTH = slice_(end("10.1.0.1", "n1"), end("10.1.0.2", "n2"), ports=[UDP_53])


def served() -> Node:
    """Both endpoints serve; flows to both, and to unrelated addresses."""
    node = Node(set())
    node.put(DNS, BOTH)
    node.table = FLOWS | STRANGE
    node.expected = set(node.table)
    return node


def of(end: str) -> set[Flow]:
    return {flow for flow in FLOWS if flow[1][0] == end}


GONE = [
    ("zero", "MODIFIED", [slice_(ports=[UDP_53])], set()),
    ("delslice", "DELETED", [BOTH], set()),
    ("notready", "MODIFIED", [slice_(end("10.1.0.1", ready=False), end("10.1.0.2"), ports=[UDP_53])], of("10.1.0.2")),
    ("gone", "MODIFIED", [slice_(end("10.1.0.1", ready="gone"), end("10.1.0.2"), ports=[UDP_53])], of("10.1.0.2")),
    ("drains", "MODIFIED", [slice_(end("10.1.0.1", ready="draining"), end("10.1.0.2"), ports=[UDP_53])], FLOWS),
    ("delsvc", "DELETED", [DNS], set()),
    ("delall", "DELETED", [DNS, BOTH], set()),
    ("portgone", "MODIFIED", [service("NodePort", ports=[("dns", "UDP", 5353, 30054)], externalIPs=[EXT])], set()),
    ("toTCP", "MODIFIED", [service("NodePort", ports=[("dns", "TCP", 53, 30053)], externalIPs=[EXT])], set()),
    ("ipgone", "MODIFIED", [{**DNS, "spec": DNS["spec"] | {"clusterIP": "172.30.0.9", "clusterIPs": ["172.30.0.9"]}}],
     {flow for flow in FLOWS if flow[0][0] != CIP}),
    ("extgone", "MODIFIED", [service("NodePort", ports=[("dns", "UDP", 53, 30053)])],
     {flow for flow in FLOWS if flow[0][0] != EXT}),
    ("headless", "MODIFIED", [service(ip="None", ports=[("dns", "UDP", 53, 0)])], set()),
    ("local", "MODIFIED", [{**DNS, "spec": DNS["spec"] | {"internalTrafficPolicy": "Local"}}],
     FLOWS - {((CIP, 53), ("10.1.0.2", 53))}),
    ("nothing", "MODIFIED", [DNS], FLOWS),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "manifests", "left"), [each[1:] for each in GONE], ids=[each[0] for each in GONE])
def test_which_flows_each_change_makes_stale(kind, manifests, left):
    """Flows of everything deleted are removed; unrelated flows never are."""
    node = served()
    node.put(*manifests, kind=kind)
    assert node.table == node.expected == left | STRANGE


def test_untranslated_flows_are_removed_when_the_service_appears():
    """It would keep a client from a new Service; without a Service it is left alone."""
    node = Node(UNTRANSLATED | STRANGE)
    node.put(DNS)
    assert node.table == node.expected == STRANGE, "though nobody serves it yet"
    node.put(DNS, kind="DELETED")
    node.table |= UNTRANSLATED
    node.put(service(name="s9", ip="172.30.0.99", ports=[("dns", "UDP", 53, 0)]))
    assert node.table == UNTRANSLATED | STRANGE


def test_flows_of_an_address_taken_over_stay_if_still_served():
    node = served()
    taker = service(name="s2", ip="172.30.0.42", ports=[("dns", "UDP", 53, 0)], externalIPs=[EXT])
    node.observe(("DELETED", "services", json.dumps(DNS).encode()))
    node.put(taker, slice_(end("10.1.0.2"), name="s2-a", of="s2", ports=[UDP_53]))
    assert node.table == node.expected == STRANGE | {((EXT, 53), ("10.1.0.2", 53))}


def test_an_address_that_no_longer_accepts_node_ports():
    """Its flows to our endpoints are removed; an added one is checked in any case."""
    node = served()
    moved = "192.168.0.7"
    node.table |= {((moved, 30053), (moved, 30053))}
    node.sync(host((moved,), (moved,)))
    assert node.table == STRANGE | {flow for flow in FLOWS if flow[0][0] != NODE}


def test_a_full_sync_checks_all_flows():
    """While the rules were missing, clients' packets were untranslated."""
    node = served()
    node.table |= UNTRANSLATED
    looked = node.looked
    node.sync()
    assert node.looked == looked and node.table >= UNTRANSLATED
    node.sync(whole=True)
    assert node.table == FLOWS | STRANGE


def test_in_iptables_loopback_accepts_node_ports():
    for mode, left in (("iptables", False), ("nftables", True)):
        tracker, state, dataplane = (
            FlowTracker(4, ProxyConfig(), MODES[mode]),
            ClusterState("n1"),
            Dataplane(4, ProxyConfig()),
        )
        for resource, manifest in (("services", DNS), ("endpointslices", BOTH)):
            state.observe("ADDED", resource, json.dumps(manifest).encode())
        dirty = state.take_dirty()
        dataplane.update(state, dirty)
        stale = tracker.update(state, dirty, dataplane.plans, host())
        local = ("127.0.0.1", 30053)
        assert stale(packed(local), packed(local)) != left
        assert stale(packed(("192.168.1.2", 30053)), packed(local)) != left, "not the node's own address"


def test_a_service_address_takes_precedence_over_a_node_port_of_the_same_number():
    """A cluster IP's port may be another Service's node port; the flows of both stay."""
    flows = {((CIP, 30001), ("10.1.0.1", 53)), ((NODE, 30001), ("10.1.0.2", 53))}
    node = Node(flows)
    for name, ip, port, node_port in (("own", CIP, 30001, 0), ("other", "172.30.0.2", 53, 30001)):
        piece = slice_(end(f"10.1.0.{1 + (name == 'other')}"), name=name, of=name, ports=[UDP_53])
        made = service("NodePort", name=name, ip=ip, ports=[("dns", "UDP", port, node_port)])
        for resource, manifest in (("services", made), ("endpointslices", piece)):
            node.observe(("ADDED", resource, json.dumps(manifest).encode()))
    node.sync()
    assert node.table == node.expected == flows
