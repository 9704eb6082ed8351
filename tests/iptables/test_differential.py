"""Any cluster, any packet, mode iptables: tracer, oracle, read-back and the real kernel agree."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.acceptance.observer import PacketObserver
from harness.acceptance.run import Tracers
from harness.judge.oracle.packets import expected
from harness.judge.trace.iptables import IptablesTracer
from harness.modes import iptables
from harness.places.place import Place
from harness.places.world import World
from tests.cases.strategies import LOCAL, clusters, packed, packets, settings_of_proxies
from tests.cases.synced import oracle_of, synced
from tests.cases.test_differential import PODS_AND_ENDS, flow_of, outcome, walk

OWN = frozenset(map(packed, LOCAL))


def check_saved(view, asked, oracle) -> None:
    """What was saved, by the kernel or from memory, reads as the oracle's behaviour and traces as its outcomes."""
    for family in (4, 6):
        assert view.check(family, oracle.behaviour(family, "iptables"), oracle.settings).differences == []
        tracer = IptablesTracer(family, OWN)
        tracer.feed(view.save(family))
        for packet in asked:
            if len(packet.source) == (4 if family == 4 else 16):
                assert tracer.trace(packet).outcome == expected(oracle, packet, "iptables"), packet


@given(events=clusters(), wanted=settings_of_proxies)
def test_tracer_oracle_and_readback_agree(events, wanted):
    opened, tracers = iptables.memory(), Tracers("iptables", OWN)
    synced("iptables", events, wanted, opened.kernel, tracers)
    oracle, asked = oracle_of(events, wanted), packets(events)
    for packet in asked:
        assert outcome(tracers, packet) == expected(oracle, packet, "iptables"), packet
    check_saved(opened.view, asked[::5], oracle)


@given(events=clusters(), again=clusters(), wanted=settings_of_proxies, syncs=st.frozensets(st.integers(0, 40)))
def test_incremental_state_equals_state_from_scratch(events, again, wanted, syncs):
    path, straight = walk(events, again)
    stepwise, at_once, fed = iptables.memory(), iptables.memory(), Tracers("iptables", OWN)
    synced("iptables", path, wanted, stepwise.kernel, fed, syncs=syncs)
    synced("iptables", straight, wanted, at_once.kernel)
    oracle = oracle_of(straight, wanted)
    for family in (4, 6):
        assert sorted(stepwise.view.save(family).splitlines()) == sorted(at_once.view.save(family).splitlines())
    check_saved(stepwise.view, packets(again)[::5], oracle)
    for packet in packets(again)[::3]:  # what partial programs add up to
        assert outcome(fed, packet) == expected(oracle, packet, "iptables"), packet


@given(events=clusters(), again=clusters(), wanted=settings_of_proxies, syncs=st.frozensets(st.integers(0, 40)))
def test_programs_are_deterministic(events, again, wanted, syncs):
    path, _ = walk(events, again)
    first, second = (synced("iptables", path, wanted, iptables.memory().kernel, syncs=syncs).digest for _ in range(2))
    assert first == second


@settings(
    max_examples=6,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    events=clusters(largest=2),
    before=clusters(largest=1),
    wanted=settings_of_proxies,
    variant=st.sampled_from(["legacy", "nft"]),
)
def test_real_packets_agree(kernel_namespaces, events, before, wanted, variant):
    path, straight = walk(before, events)
    with World() as world:
        place = Place("netns", world.node.socket, world.node.run)
        world.add_addresses(list(map(packed, LOCAL)))
        world.route_to_pods(list(map(packed, ["10.0.0.2", "fd00:10::2", *PODS_AND_ENDS])))
        with iptables.real(place, variant) as opened:
            synced("iptables", path, wanted, opened.kernel, syncs=frozenset(range(0, len(path), 3)))
            oracle = oracle_of(straight, wanted)
            observer = PacketObserver(world, opened.kernel, lambda: iptables.forget_clients(place))
            asked = [flow_of(p, expected(oracle, p, "iptables")) for p in possible(events, wanted)[::7]]
            seen = observer.observe(asked)
            wrong = [(f.packet, f.expected, s) for f, s in zip(asked, seen, strict=True) if s["outcome"] != f.expected]
            assert wrong == [], wrong[0]
            iptables.forget_clients(place)
            check_saved(opened.view, packets(events), oracle)


def possible(events, wanted):
    """Packets that reach the rules: routing drops others to loopback unless route_localnet is set."""

    def gets_through(packet) -> bool:
        to_loopback = ip_address(packet.destination).is_loopback
        return packet.source_local or not to_loopback or (wanted.localhost and len(packet.destination) == 4)

    return [packet for packet in packets(events) if gets_through(packet)]
