"""Random clusters with changes, as events, and the oracle's expectations for random packets.  Pure."""

from __future__ import annotations

import copy
import random
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from harness.acceptance.cases import parse
from harness.conformance.corpus.clusters import CONFIG, Json, end, node, service, slice_
from harness.conformance.entry import Entry, EntryStep
from harness.conformance.testbed import in_words
from harness.judge.oracle import Oracle
from harness.judge.oracle.packets import expected
from harness.judge.oracle.scene import scene
from harness.judge.packet import Flow, Packet
from harness.judge.packets.questions import HAIRPIN, NO_SERVICE, Asking, Question
from harness.log.events import Event
from harness.places.world import World

STEPS = 3
MOST_PACKETS = 40
"""Number of random packets per step and family."""
FAMILIES = (4, 6)
_KINDS = {"Service": "services", "EndpointSlice": "endpointslices", "Node": "nodes"}
_PROTOCOLS = frozenset((6, 17, 132))
_LOOPBACK = (bytes((127, 0, 0, 1)), bytes(15) + b"\1")
Key = tuple[bytes, int, int]
Asked = tuple[str, Key]
"""The kind of client, and the destination."""


def random_history(seed: int) -> list[Event]:
    """A cluster and its changes; `t` is the number of the step."""
    found: list[Event] = []
    before: list[Json] = []
    for step, objects in enumerate(_story(seed)):
        for kind, resource, manifest in _changes(before, objects):
            found.append(Event(len(found) + 1, step, kind, resource, msgspec.Raw(manifest)))
        before = objects
    return found


def _story(seed: int) -> list[list[Json]]:
    """All objects of the cluster after each step."""
    rng = random.Random(seed)
    story = [_cluster(rng)]
    for _ in range(STEPS - 1):
        story.append(_changed(rng, copy.deepcopy(story[-1])))
    return story


def _cluster(rng: random.Random) -> list[Json]:
    objects = [node(rng.choice((None, "a")))]
    for number in range(1, rng.randint(2, 5)):
        objects += _service(rng, number)
    return objects


def _service(rng: random.Random, number: int) -> list[Json]:
    six = rng.random() < 0.4
    protocol = rng.choice(("TCP", "TCP", "UDP", "SCTP"))
    kind = rng.choice(("ClusterIP", "NodePort", "LoadBalancer"))
    spec: Json = {"ip": f"fd00:96::{number:x}" if six else f"172.30.1.{number}"}
    spec["ipFamilies"] = ["IPv6" if six else "IPv4"]
    spec["ports"] = [("p", protocol, 80 + number, 30000 + number if kind != "ClusterIP" else 0)]
    if rng.random() < 0.3:
        spec["externalIPs"] = [f"2001:db8:99::{number:x}" if six else f"192.168.99.{number}"]
    if kind == "LoadBalancer":
        spec["lb"] = [f"2600:2::{number:x}" if six else f"1.2.3.{number}"]
        if rng.random() < 0.4:
            spec["loadBalancerSourceRanges"] = ["2600::/121" if six else "203.0.113.0/25"]
    if kind != "ClusterIP" or "externalIPs" in spec:
        spec["externalTrafficPolicy"] = rng.choice(("Cluster", "Local"))
    spec["internalTrafficPolicy"] = rng.choice(("Cluster", "Cluster", "Local"))
    name = f"s{number}"
    return [service(kind, name=name, **spec), _slice(rng, number, six, protocol)]


def _slice(rng: random.Random, number: int, six: bool, protocol: str) -> Json:
    ends = []
    for each in range(rng.randint(0, 4)):
        address = f"fd00:10:b4:{number:x}::{each + 1:x}" if six else f"10.180.{number}.{each + 1}"
        hints = {"hints": {"forZones": [{"name": rng.choice("ab")}]}} if rng.random() < 0.3 else {}
        ready = rng.choice((True, True, True, False, "draining", "gone"))
        ends.append(end(address, rng.choice(("n1", "n2")), ready, **hints))
    ports = [{"name": "p", "port": 8080 + number, "protocol": protocol}]
    family = "IPv6" if six else "IPv4"
    return slice_(*ends, name=f"s{number}-a", of=f"s{number}", family=family, ports=ports)


def _changed(rng: random.Random, objects: list[Json]) -> list[Json]:
    """Changes one Service's endpoints, its policies or all of it, adds another, or changes the node's zone."""
    places = [place for place, each in enumerate(objects) if each["kind"] == "Service"]
    place = rng.choice(places)
    chosen, piece = objects[place], objects[place + 1]
    number = int(chosen["metadata"]["name"][1:])
    match rng.randrange(5):
        case 0:
            del objects[place : place + 2]
        case 1:
            chosen["spec"]["internalTrafficPolicy"] = rng.choice(("Cluster", "Local"))
            if "externalTrafficPolicy" in chosen["spec"]:
                chosen["spec"]["externalTrafficPolicy"] = rng.choice(("Cluster", "Local"))
        case 2:
            objects[place : place + 2] = _service(rng, number)
        case 3:
            objects[0] = node(rng.choice(("a", "b")))
        case _:
            protocol = chosen["spec"]["ports"][0]["protocol"]
            objects[place + 1] = _slice(rng, number, piece["addressType"] == "IPv6", protocol)
    return objects if len(objects) > 1 else [*objects, *_service(rng, number)]


def _changes(before: list[Json], after: list[Json]) -> Iterator[tuple[str, str, bytes]]:
    old, new = ({(each["kind"], each["metadata"]["name"]): each for each in objects} for objects in (before, after))
    for key in sorted(old.keys() - new.keys()):
        yield "DELETED", _KINDS[key[0]], msgspec.json.encode(old[key])
    for key, manifest in new.items():
        if old.get(key) != manifest:
            yield "MODIFIED" if key in old else "ADDED", _KINDS[key[0]], msgspec.json.encode(manifest)


def entry(
    mode: str, version: tuple[int, int], seed: int, events: Sequence[Event], only: Collection[Asked] | None = None
) -> Entry:
    """The history as a case, with random packets to present and former destinations, or `only` the given ones."""
    raw: Json = {"name": f"seed {seed}", "config": CONFIG | {"modes": [mode]}, "objects": [], "flows": []}
    case = parse(Path(f"seed-{seed}"), raw)
    oracle, draw = Oracle(case.node, case.settings(version)), random.Random(seed)
    known: dict[int, set[Key]] = {family: set() for family in FAMILIES}
    steps = []
    for _, group in groupby(events, lambda event: event.t):
        changes = list(group)
        for event in changes:
            oracle.observe(event)
        asked = [_asked(oracle, mode, family, known[family]) for family in FAMILIES]
        flows = [flow for some in asked for flow in _flows(oracle, mode, _some(some, draw, only))]
        written = tuple((event.type, event.resource, bytes(event.object)) for event in changes)
        steps.append(EntryStep(written, tuple(flows)))
    return Entry(f"seed-{seed}", f"random cluster of seed {seed}", ("FUZZ",), "the oracle", case, tuple(steps))


def _asked(oracle: Oracle, mode: str, family: int, known: set[Key]) -> list[Question]:
    """All possible packets of a family; `known` has every destination so far."""
    asking = Asking(oracle, family, mode, scene(oracle, family), World.own_address(family))
    gone = known - set(asking.behaviour.destinations)
    known |= set(asking.behaviour.destinations)
    there = [q for q in asking.questions(_PROTOCOLS, 1 << 30) if q.what != NO_SERVICE]
    asked = [*there, *asking.about_gone(gone)]
    return [q for q in asked if q.who != HAIRPIN and q.packet.destination not in _LOOPBACK]


def _some(asked: list[Question], draw: random.Random, only: Collection[Asked] | None) -> list[Question]:
    if only is not None:
        return [q for q in asked if _key(q.origin, q.packet) in only]
    return sorted(draw.sample(asked, min(MOST_PACKETS, len(asked))))


def _flows(oracle: Oracle, mode: str, asked: list[Question]) -> Iterator[Flow]:
    for question in asked:
        outcome = expected(oracle, question.packet, mode)
        yield Flow(str(question), question.origin, question.packet, outcome, None)


def _key(origin: str, packet: Packet) -> Asked:
    return origin, (packet.destination, packet.protocol, packet.port)


def packets_of(tried: Entry, words: Collection[str]) -> set[Asked]:
    """The packets of a case with these descriptions."""
    return {_key(flow.origin, flow.packet) for step in tried.steps for flow in step.flows if in_words(flow) in words}
