"""A redacted recording converges like the original: the same number of syncs, each with as many operations."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backends.nftables.slots import moves, reslotted
from harness.log import initial_events_end, write_recording
from harness.log.events import FORMAT, VERSION, Event, Header
from harness.log.redact import redact
from harness.log.synth import SynthOptions, generate
from harness.modes import MODES
from harness.replay.kernels import open_kernel
from harness.replay.session import ReplayOptions, ReplaySession
from tests.cases.strategies import clusters

pytestmark = pytest.mark.xdist_group("redaction")

KEY = b"a key for all the tests"
KEYS = st.binary(min_size=16, max_size=16)


class Counting:
    """A kernel in memory that writes down what each program asks for."""

    def __init__(self, kernel) -> None:
        self._kernel = kernel
        self.operations: list[tuple[int, int]] = []

    def apply(self, program):
        self.operations.append((program.family, program.operations))
        return self._kernel.apply(program)

    def __getattr__(self, name: str):
        return getattr(self._kernel, name)


def replayed(path, mode: str, verify: bool = False) -> tuple:
    """All that must not change: syncs, programs' families and operations, changes counted."""
    with open_kernel("memory", mode) as target:
        kernel = Counting(target.kernel)
        options = ReplayOptions(mode=mode, verify="full" if verify else "none", min_sync_period=10**9)
        result = ReplaySession(str(path), options, target._replace(kernel=kernel), lambda *_: None).run()
    assert not verify or result.verified is True, result.differences
    counted = result.recording.services, result.recording.endpoints, result.recording.events
    return result.syncs, kernel.operations, result.change.count, counted


@pytest.fixture(scope="module", params=["demo", "dual-stack"])
def both(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    source = "recordings/demo.jsonl"
    if request.param == "dual-stack":
        source = folder / "source.jsonl"
        write_recording(source, *generate(SynthOptions(services=50, churn=300, nodes=5, dual_stack=True, seed=4)))
    redact(str(source), folder / "redacted.jsonl", KEY)
    return source, folder / "redacted.jsonl"


@pytest.mark.parametrize("mode", MODES)
def test_a_redacted_recording_costs_the_same_in_every_mode(both, mode):
    source, redacted = both
    assert replayed(redacted, mode, verify=True) == replayed(source, mode)


@st.composite
def histories(draw) -> list[tuple[str, str, bytes]]:
    """Clusters of every kind that grow, change into others of the same names, and shrink."""
    events = draw(clusters())
    later = draw(clusters())
    known = {name_of(event) for event in events}
    for kind, resource, manifest in later:
        event = (kind, resource, manifest)
        events.append(("MODIFIED" if name_of(event) in known else "ADDED", resource, manifest))
        known.add(name_of(event))
    gone = draw(st.lists(st.sampled_from([e for e in later if e[1] != "nodes"]), unique_by=name_of, max_size=3))
    return events + [("DELETED", resource, manifest) for _, resource, manifest in gone]


def name_of(event: tuple[str, str, bytes]) -> tuple[str, str]:
    return event[1], json.loads(event[2])["metadata"]["name"]


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=12 if settings.default.max_examples < 1_000 else 300)
@given(history=histories(), key=KEYS)
def test_redaction_does_not_change_the_cost_of_any_cluster(tmp_path_factory, mode, history, key):
    costs_the_same(tmp_path_factory.mktemp("history"), mode, history, key)


@st.composite
def rivalries(draw) -> list[tuple[str, str, bytes]]:
    """Services that want the same addresses and node ports with different wishes, and come, change and go."""
    whom = st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y", "z"]))
    steps = draw(st.lists(st.tuples(whom, st.sampled_from(["Cluster", "Local", None])), min_size=2, max_size=12))
    last: dict[tuple[str, str], tuple[str, str, bytes]] = {}
    events = [("ADDED", "nodes", json.dumps({"metadata": {"name": "n1"}}).encode())]
    for number, (who, policy) in enumerate(steps, 1):
        if policy is None and who not in last:
            continue
        if policy is None:
            events.append(("DELETED", *last.pop(who)[1:]))
            continue
        event = ("MODIFIED" if who in last else "ADDED", "services", rival(*who, policy, number))
        events.append(event)
        events.append((event[0], "endpointslices", rival_slice(*who, number)))
        last[who] = event
    return events


def rival(namespace: str, name: str, policy: str, number: int) -> bytes:
    ip = f"172.30.0.{number}"
    spec = {
        "type": "NodePort", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
        "externalIPs": ["198.51.100.1"],
        "externalTrafficPolicy": policy, "ports": [{"name": "p", "port": 80, "nodePort": 30000, "protocol": "TCP"}],
    }  # fmt: skip
    return json.dumps({"metadata": {"namespace": namespace, "name": name}, "spec": spec}).encode()


def rival_slice(namespace: str, name: str, number: int) -> bytes:
    metadata = {"namespace": namespace, "name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}}
    ends = [{"addresses": [f"10.1.0.{n}"], "conditions": {}, "nodeName": "n1"} for n in range(number % 3)]
    ports = [{"name": "p", "port": 8080, "protocol": "TCP"}]
    manifest = {"metadata": metadata, "addressType": "IPv4", "endpoints": ends, "ports": ports}
    return json.dumps(manifest).encode()


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15 if settings.default.max_examples < 1_000 else 300)
@given(history=rivalries(), key=KEYS)
def test_redaction_does_not_change_the_cost_of_conflicting_services(tmp_path_factory, mode, history, key):
    costs_the_same(tmp_path_factory.mktemp("rivals"), mode, history, key)


def costs_the_same(folder, mode: str, history: list[tuple[str, str, bytes]], key: bytes) -> None:
    """The history, an event every two seconds, replayed as it is and redacted."""
    made = [
        Event(n, 2 * 10**9 * n, kind, resource, msgspec.Raw(manifest))
        for n, (kind, resource, manifest) in enumerate(history, 1)
    ]
    made[1:1] = [initial_events_end(1, 2 * 10**9, resource) for resource in ("services", "endpointslices")]
    made = [Event(n, event.t, event.type, event.resource, event.object) for n, event in enumerate(made, 1)]
    header = Header(FORMAT, VERSION, cluster={"clusterCIDR": "10.0.0.0/8,fd00:10::/32"})
    write_recording(folder / "source.jsonl", header, made)
    redact(str(folder / "source.jsonl"), folder / "redacted.jsonl", key)
    assert replayed(folder / "redacted.jsonl", mode) == replayed(folder / "source.jsonl", mode)


targets = st.lists(st.integers(0, 40).map(lambda n: n.to_bytes(6, "big")), unique=True, max_size=20)


@given(targets, targets)
def test_moves_between_slots_are_counted_separately(before, after):
    slots = reslotted(before, sorted(after))
    elements = 0
    for slot in range(max(len(before), len(slots))):
        old, new = (held[slot] if slot < len(held) else None for held in (before, slots))
        elements += (old is not None and old != new) + (new is not None and old != new)
    assert elements - moves(before, slots) == len(set(before) ^ set(after))
    assert 0 <= moves(before, slots) <= 2 * len(set(before) & set(after))
