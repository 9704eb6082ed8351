"""Any cluster, any packet: the tracer over the program, the oracle over the events and the kernel agree."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.acceptance.cases import Flow
from harness.acceptance.observer import PacketObserver
from harness.acceptance.run import Tracers
from harness.judge.oracle.packets import expected
from harness.judge.readback import nftables_rules
from harness.judge.trace.nftables import NftablesTracer
from harness.modes import nftables
from harness.places.place import Place
from harness.places.world import World

from .strategies import LOCAL, clusters, packed, packets, settings_of_proxies
from .synced import oracle_of, synced

PODS_AND_ENDS = [f"10.1.0.{n}" for n in range(11, 37)] + [f"fd00:10::{n}" for n in range(11, 37)]


def tracers_and_oracle(events, wanted, *kernels, syncs: frozenset[int] = frozenset()):
    """Tracers and oracle after the events, synced after some of them and at the end."""
    tracers = Tracers("nftables", frozenset(map(packed, LOCAL)))
    synced("nftables", events, wanted, *kernels, tracers, syncs=syncs)
    return tracers, oracle_of(events, wanted)


def outcome(tracers: Tracers, packet):
    return tracers.of_family(4 if len(packet.source) == 4 else 6).trace(packet).outcome


def walk(events, again):
    """A history that adds, deletes and adds again, and the events that lead directly to its final state."""
    gone = [("DELETED", resource, raw) for _, resource, raw in events if resource != "nodes"]
    path = [*events, *gone[::2], *again]
    state = {}
    for kind, resource, raw in path:
        meta = msgspec.json.decode(raw)["metadata"]
        key = resource, meta.get("namespace", ""), meta["name"]
        state.pop(key, None)
        if kind != "DELETED":
            state[key] = ("ADDED", resource, raw)
    return path, list(state.values())


@given(events=clusters(), wanted=settings_of_proxies)
def test_tracer_oracle_and_readback_agree(events, wanted):
    opened = nftables.memory()
    tracers, oracle = tracers_and_oracle(events, wanted, opened.kernel)
    for packet in packets(events):
        assert outcome(tracers, packet) == expected(oracle, packet), packet
    for family in (4, 6):
        behaviour = oracle.behaviour(family)
        assert opened.view.check(family, behaviour, wanted).differences == []
        table = tracers.of_family(family).table
        assert list(nftables_rules.differences(family, table, behaviour.node_addresses is None, wanted)) == []


@given(events=clusters(), again=clusters(), wanted=settings_of_proxies, syncs=st.frozensets(st.integers(0, 40)))
def test_incremental_state_equals_state_from_scratch(events, again, wanted, syncs):
    path, straight = walk(events, again)
    stepwise, _ = tracers_and_oracle(path, wanted, syncs=syncs)
    at_once, _ = tracers_and_oracle(straight, wanted)
    for packet in packets(again):
        assert outcome(stepwise, packet) == outcome(at_once, packet), packet


@settings(
    max_examples=6,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(events=clusters(largest=2), wanted=settings_of_proxies)
def test_real_packets_agree(kernel_namespaces, events, wanted):
    with World() as world:
        place = Place("netns", world.node.socket, world.node.run)
        world.add_addresses(list(map(packed, LOCAL)))
        world.route_to_pods(list(map(packed, ["10.0.0.2", "fd00:10::2", *PODS_AND_ENDS])))
        with nftables.real(place) as opened:
            _, oracle = tracers_and_oracle(events, wanted, opened.kernel)
            observer = PacketObserver(world, opened.kernel, lambda: nftables.forget_clients(place))
            asked = [flow_of(packet, expected(oracle, packet)) for packet in possible(events)[::7]]
            seen = observer.observe(asked)
            wrong = [(f.packet, f.expected, s) for f, s in zip(asked, seen, strict=True) if s["outcome"] != f.expected]
            assert wrong == [], wrong[0]
            nftables.forget_clients(place)
            listed = place.run(["nft", "list", "ruleset"], b"").stdout.decode()
    check_listing(listed, packets(events), oracle)


def possible(events):
    """Packets that reach the rules: routing drops those from elsewhere to loopback."""
    return [p for p in packets(events) if p.source_local or not ip_address(p.destination).is_loopback]


def check_listing(listed: str, asked, oracle) -> None:
    """Output of `nft list` is equivalent to the rules written."""
    tracers = {4: NftablesTracer(4, frozenset(map(packed, LOCAL))), 6: NftablesTracer(6, frozenset(map(packed, LOCAL)))}
    for tracer in tracers.values():
        tracer.feed(listed)
    for packet in asked:
        assert tracers[4 if len(packet.source) == 4 else 6].trace(packet).outcome == expected(oracle, packet), packet


def flow_of(packet, wanted) -> Flow:
    pod = not packet.source_local and packet.source[:1] in (b"\x0a", b"\xfd")
    origin = "node-host" if packet.source_local else "pod-local" if pod else "external"
    return Flow("", origin, packet, wanted, None)
