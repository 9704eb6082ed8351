"""nftables: endpoint sets of any size, more timeouts than fit, and the effect on a Service."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.backends.nftables import affinity, layout
from engine.backends.nftables.blocks import Blocks
from engine.backends.nftables.numbers import (
    COUNT_LIMIT,
    ID_BITS,
    LARGE_ID_BITS,
    LARGE_IDS,
    LARGE_LIMIT,
    STICKY_CLUSTER,
    STICKY_ID_BITS,
    STICKY_LIMIT,
    STICKY_LOCAL,
    pick,
)
from engine.config import ProxyConfig
from engine.dataplane import PlanChange, PortPlan
from engine.kernel.nftables import NftablesMemory
from engine.model import HostAddresses, Name, Target
from engine.proxier import Proxier
from harness.acceptance.observer import open_observer
from harness.acceptance.run import CaseRun
from harness.conformance.corpus.clusters import CIP, POD, end, flow, service, slice_
from harness.judge.packet import Packet
from harness.judge.readback.nftables import behaviour_of
from harness.judge.readback.nftables_judge import VERDICTS
from harness.judge.trace.nftables import NftablesTracer
from harness.modes import nftables
from harness.places.place import Place
from tests.cases.made import case

PORT = 80
NOBODY = HostAddresses((), ())


def target(number: int) -> Target:
    return bytes([10, 180 + (number >> 16), number >> 8 & 255, number & 255]) + PORT.to_bytes(2, "big")


def address(number: int) -> bytes:
    return bytes([172, 30, number >> 8, number & 255])


def plan(number: int, ends: int, seconds: int = 0, first: int = 0, **more: Any) -> PortPlan:
    """A port at the cluster IP of a number, with as many endpoints from the first on."""
    targets = tuple(target(each) for each in range(first, first + ends))
    fields = {
        "name": "http", "protocol": 6, "port": PORT, "node_port": 0, "cluster_ip": address(number),
        "external_ips": (), "load_balancer_ips": (), "allowed": None, "internal_local": False,
        "external_local": False, "cluster": targets, "local": (), "any_usable": bool(targets),
        "affinity_seconds": seconds,
    }  # fmt: skip
    return PortPlan(**fields | more)


class Node:
    """A backend of IPv4, kernels that apply its programs, and what they hold."""

    def __init__(self, *kernels) -> None:
        self.backend = layout.NftablesBackend(4, ProxyConfig())
        self.memory = NftablesMemory()
        self._texts: list[str] = []
        self._kernels = kernels
        self._plans: dict[int, tuple[PortPlan, ...]] = {}

    def sync(self, plans: dict[int, PortPlan | None]):
        """One sync, in which these numbers' Services change."""
        changes = []
        for number, new in plans.items():
            name, old = Name("ns", f"s{number}"), self._plans.get(number, ())
            self._plans[number] = (new,) if new else ()
            changes.append(PlanChange(name, old, self._plans[number]))
        program = self.backend.plan(changes, NOBODY)
        self._texts.append(program.text())
        for kernel in (self.memory, *self._kernels):
            kernel.apply(program)
        return program

    def found(self, number: int, tables=None):
        """Endpoints and seconds of affinity at a cluster IP, as the judge reads the kernel."""
        tables = tables or {name: self.memory.tables[4].get(name, {}) for name in nftables.SETS}
        destination = behaviour_of(4, tables).destinations[address(number), 6, PORT]
        return (
            destination.node[1] if destination.node[0] == "dnat" else destination.node
        ), destination.affinity_seconds

    def traced(self, number: int) -> frozenset:
        tracer = NftablesTracer(4)
        tracer.feed("".join(self._texts))
        return tracer.trace(Packet(bytes([10, 9, 0, 2]), address(number), 6, PORT)).outcome.endpoints


def ends(count: int, first: int = 0) -> frozenset:
    return frozenset((target(each)[:4], PORT) for each in range(first, first + count))


@pytest.mark.parametrize("seconds", [0, 100])
def test_every_one_of_many_endpoints_gets_its_share(tmp_path, kernel_namespaces, seconds):
    count, draws, groups = 10_000, 4_000, 40
    spec = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}
    texts = [f"10.180.{each // 250}.{each % 250 + 1}" for each in range(count)]
    slices = [slice_(*map(end, texts[first : first + 1000]), name=f"s1-{first}") for first in range(0, count, 1000)]
    read = case("x", [service(**spec if seconds else {}), *slices], [flow(POD, f"{CIP}:80", "dnat", *texts)])
    (asked,) = read.stages[0].flows
    with open_observer(read, "nftables") as observer:
        run = CaseRun(read, "nftables", observer, (1, 35))
        run.enter(read.stages[0].events)
        assert run._tracers.of(asked).trace(asked.packet).outcome == asked.expected, "all of them, by the rules"
        found = Counter()
        for number in range(draws):
            client = bytes([10, 9, number >> 8, number & 255])
            (arrived,) = observer.connect(asked._replace(packet=asked.packet._replace(source=client))).endpoints
            found[arrived] += 1
    share = draws / groups
    order = {place: number for number, place in enumerate(sorted(asked.expected.endpoints))}
    sums = Counter(order[place] * groups // count for place in found.elements())
    chi_square = sum((sums[group] - share) ** 2 / share for group in range(groups))
    assert chi_square < 120, f"{groups - 1} degrees of freedom: nine standard deviations"
    expected = count * (1 - (1 - 1 / count) ** draws)
    assert abs(len(found) - expected) < 200, "and within the groups too: as many different ones as chance gives"


@pytest.mark.parametrize("seconds", [0, 100])
def test_a_set_may_grow_and_shrink_across_every_limit(seconds):
    node = Node()
    marks = [1, COUNT_LIMIT, COUNT_LIMIT + 1, 5000, COUNT_LIMIT, 2, COUNT_LIMIT + 2]
    for count in marks:
        node.sync({1: plan(1, count, seconds)})
        assert node.found(1) == (ends(count), seconds)
    assert node.traced(1) == ends(marks[-1])
    assert not node.backend.degraded
    cheap = node.sync({1: plan(1, marks[-1], seconds, first=1)})
    assert cheap.operations <= 8, "one endpoint for another costs a handful of elements"
    node.sync({1: None})
    assert not {name for name, held in node.memory.tables[4].items() if held} - {"equal-bytes", *VERDICTS}


def test_endpoints_beyond_the_limit_of_a_pick_are_reported():
    node, wanted = Node(), LARGE_LIMIT + 1
    node.sync({1: plan(1, wanted), 2: plan(2, 3), 3: plan(3, STICKY_LIMIT + 1, 100)})
    assert len(node.found(1)[0]) == LARGE_LIMIT
    assert node.found(2) == (ends(3), 0)
    assert node.found(3) == (ends(STICKY_LIMIT + 1), 0), "all endpoints, and no affinity"
    said = {name.name: text for name, text in node.backend.degraded.items()}
    assert said == {
        "s1": f"port http: only {LARGE_LIMIT:,} of {wanted:,} endpoints",
        "s3": f"port http: no session affinity, more than {STICKY_LIMIT:,} endpoints",
    }
    node.sync({1: plan(1, 5), 3: plan(3, 4, 100)})
    assert node.found(1) == (ends(5), 0) and node.found(3) == (ends(4), 100)
    assert not node.backend.degraded


def test_many_timeouts_are_kept_exactly(namespace):
    with nftables.real(Place("netns", namespace.socket, namespace.run)) as real:
        node, count = Node(real.kernel), 600
        node.sync({number: plan(number, 2, 1000 + number) for number in range(1, count + 1)})
        node.sync({number: None for number in range(1, count, 2)})
        program = node.sync({number: plan(number, 2, 5000 + number) for number in range(1, count, 2)})
        assert "delete chain ip kube-proxy remember-cluster-1001\n" in program.text(), "those of nobody are freed"
        behaviour = real.view.behaviour(4)
        assert behaviour == behaviour_of(4, {name: node.memory.tables[4].get(name, {}) for name in nftables.SETS})
        for number in range(1, count + 1):
            seconds = (5000 if number % 2 else 1000) + number
            assert behaviour.destinations[address(number), 6, PORT].affinity_seconds == seconds
    assert not node.backend.degraded


def test_a_timeout_beyond_the_limit_uses_the_nearest_one(monkeypatch):
    monkeypatch.setattr(affinity, "Blocks", lambda: Blocks(4))
    node = Node()
    node.sync(
        {1: plan(1, 2, 10), 2: plan(2, 2, 100), 3: plan(3, 2, 1000), 4: plan(4, 2, 90), 5: plan(5, 2), 6: plan(6, 2, 9)}
    )
    assert [node.found(number)[1] for number in range(1, 7)] == [10, 100, 1000, 100, 0, 10]
    assert {node.found(number)[0] for number in range(1, 7)} == {ends(2)}
    said = {name.name: text for name, text in node.backend.degraded.items()}
    assert said["s4"] == "port http: session affinity of 100 s, not 90 s, too many different timeouts"
    assert sorted(said) == ["s4", "s6"]
    node.sync({3: None, 4: None, 6: None})
    node.sync({4: plan(4, 2, 90)})
    assert node.found(4) == (ends(2), 90) and not node.backend.degraded, "its room was free again"


def test_a_port_beyond_the_limit_works_without_affinity(monkeypatch):
    monkeypatch.setattr(affinity, "Blocks", lambda: Blocks(2))
    node = Node()
    node.sync({number: plan(number, 2, 10) for number in range(1, 18)})
    assert [node.found(number)[1] for number in range(1, 18)] == [10] * 16 + [0]
    assert node.found(17)[0] == ends(2)
    assert list(node.backend.degraded.values()) == ["port http: no session affinity, too many service ports have it"]
    node.sync({1: None})
    node.sync({17: plan(17, 3, 10)})
    assert node.found(17) == (ends(3), 10) and not node.backend.degraded


def test_the_proxier_reports_degraded_services(monkeypatch):
    monkeypatch.setattr(affinity, "Blocks", lambda: Blocks(2))
    proxier = Proxier("nftables", ProxyConfig(), NftablesMemory(), time.perf_counter, "n1")
    spec = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
    for number in range(1, 18):
        name, ports = f"s{number:02}", [{"name": "http", "port": 80, "protocol": "TCP"}]
        manifest = service(name=name, ip=f"172.30.0.{number}", **spec)
        proxier.state.observe("ADDED", "services", json.dumps(manifest).encode())
        manifest = slice_(end("10.180.0.1"), name=f"{name}-a", of=name, ports=ports)
        proxier.state.observe("ADDED", "endpointslices", json.dumps(manifest).encode())
    proxier.sync()
    lacks = "port http: no session affinity, too many service ports have it"
    assert proxier.degraded(4) == {Name("ns", "s17"): lacks} and not proxier.degraded(6)
    proxier.resync()
    proxier.sync()
    assert proxier.degraded(4) == {Name("ns", "s17"): lacks}, "written from scratch, the same"


def test_a_set_beyond_the_limit_is_rejected_and_the_others_are_served(monkeypatch):
    node = Node()
    node.backend._ids[False, False] = layout._Ids(LARGE_IDS, LARGE_IDS + 2)
    node.sync({number: plan(number, 2, node_port=30000 + number) for number in (1, 2, 3)})
    assert [node.found(number)[0] for number in (1, 2, 3)] == [ends(2), ends(2), ("drop",)]
    assert [str(name) for name in node.backend.degraded] == [str(Name("ns", "s3"))]
    node.sync({1: None})
    node.sync({3: plan(3, 3)})
    assert node.found(3)[0] == ends(3) and not node.backend.degraded


def test_an_old_ticket_never_selects_an_endpoint_of_a_new_port(monkeypatch):
    monkeypatch.setattr(affinity, "Blocks", lambda: Blocks(2))
    node = Node()
    seen: set[bytes] = set()
    for generation in range(40):
        node.sync({1: plan(1, 3, 10, first=generation)})
        tickets = set(node.memory.tables[4]["sticky-tcp"])
        assert not tickets & seen
        seen |= tickets
        node.sync({1: None})
        node.sync({2: plan(2, 1)})


@given(
    st.integers(1, COUNT_LIMIT),
    st.integers(LARGE_IDS, (1 << ID_BITS) - 1),
    st.integers(1, LARGE_LIMIT),
    st.integers(1, LARGE_IDS - 1),
    st.integers(1, STICKY_LIMIT),
)
def test_picks_and_tickets_never_collide(count, number, large_count, large_number, ticket):
    small, large = pick(count, number), pick(large_count, large_number)
    assert (small >> ID_BITS, small & (1 << ID_BITS) - 1) == (count, number)
    assert (large & ~(3 << 30)) >> LARGE_ID_BITS == large_count
    assert large & LARGE_IDS - 1 == large_number
    assert large >> ID_BITS > COUNT_LIMIT and large >> ID_BITS < STICKY_CLUSTER, "no small set's class, nor affinity's"
    port = (1 << STICKY_ID_BITS) - 2
    assert (ticket << STICKY_ID_BITS | port) < STICKY_CLUSTER << ID_BITS < STICKY_LOCAL << ID_BITS < 1 << 32


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=120))
def test_blocks_have_one_timeout_and_ids_one_owner(steps):
    blocks, held = Blocks(5), {}
    for take, seconds in steps:
        if take:
            taken = blocks.take(seconds)
            if taken is None:
                assert len(held) == 4 * 16
                continue
            number, granted = taken
            assert number not in held and blocks.seconds[number // 16] == granted
            assert granted == seconds or len(blocks.seconds) == 4
            held[number] = granted
        elif held:
            number = next(iter(held))
            del held[number]
            blocks.release(number)
            blocks.settle()
        assert set(blocks.seconds) == {number // 16 for number in held}
        assert all(blocks.seconds[number // 16] == granted for number, granted in held.items())


def test_only_timeouts_beyond_all_blocks_share_one():
    node = Node()
    node.sync({number: plan(number, 1, number) for number in range(1, 4200)})
    assert len(node.backend.degraded) == 4199 - 4095
    assert [node.found(number)[1] for number in (1, 4095, 4096)] == [1, 4095, 4095]
