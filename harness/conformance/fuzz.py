"""Random clusters with the oracle's expectations; a failing one is reduced.

Cluster N of seed S is cluster 1 of seed S + N - 1, so a single failure can be repeated by its seed.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from harness.acceptance.cases import parse
from harness.conformance.bench import Bench, Result
from harness.conformance.corpus.clusters import CONFIG, Json, end, node, service, slice_
from harness.conformance.entry import Entry, Step
from harness.conformance.run import Target
from harness.judge.oracle import Oracle
from harness.judge.oracle.packets import expected
from harness.judge.oracle.scene import scene
from harness.judge.packet import Flow
from harness.judge.packets.questions import HAIRPIN, NO_SERVICE, Asking
from harness.log.events import Event
from harness.places.world import World

STEPS = 3
MOST_PACKETS = 40
"""Number of random packets per step and family."""
SHRINKING_TRIES = 60
_KINDS = {"Service": "services", "EndpointSlice": "endpointslices", "Node": "nodes"}
_PROTOCOLS = {6: "TCP", 17: "UDP", 132: "SCTP"}


def fuzz(target: Target, count: int, seed: int, done: Callable[[int], None] = lambda _: None) -> list[Result]:
    """One result per cluster; may raise Unavailable."""
    results = []
    first = _entry(target, seed, _story(seed))
    with Bench(target.command, target.mode, first.case, target.variant) as bench:
        for number in range(count):
            story = _story(seed + number)
            result = bench.run(_entry(target, seed + number, story))
            if result.failures:
                result = _shrunk(target, bench, seed + number, story, result)
            results.append(result)
            done(number + 1)
    return results


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


def _entry(target: Target, seed: int, story: list[list[Json]]) -> Entry:
    """The history as a case: the changes of each step, and the oracle's outcomes for random packets."""
    raw: Json = {"name": f"seed {seed}", "config": CONFIG | {"modes": [target.mode]}, "objects": [], "flows": []}
    case = parse(Path(f"seed-{seed}"), raw)
    oracle = Oracle(case.node, case.settings(target.version))
    rng = random.Random(seed)
    steps = []
    before: list[Json] = []
    for objects in story:
        events = tuple(_events(before, objects))
        for kind, resource, manifest in events:
            oracle.observe(Event(1, 0, kind, resource, msgspec.Raw(manifest)))
        steps.append(Step(events, tuple(_flows(oracle, target.mode, rng))))
        before = objects
    described = case._replace(stages=())
    return Entry(f"seed-{seed}", f"random cluster of seed {seed}", ("FUZZ",), "the oracle", described, tuple(steps))


def _events(before: list[Json], after: list[Json]) -> Iterator[tuple[str, str, bytes]]:
    old, new = ({(each["kind"], each["metadata"]["name"]): each for each in objects} for objects in (before, after))
    for key in old.keys() - new.keys():
        yield "DELETED", _KINDS[key[0]], msgspec.json.encode(old[key])
    for key, manifest in new.items():
        if old.get(key) != manifest:
            yield "MODIFIED" if key in old else "ADDED", _KINDS[key[0]], msgspec.json.encode(manifest)


def _flows(oracle: Oracle, mode: str, rng: random.Random) -> Iterator[Flow]:
    for family in (4, 6):
        asking = Asking(oracle, family, mode, scene(oracle, family), World.own_address(family))
        asked = [q for q in asking.questions(frozenset(_PROTOCOLS), 1 << 30) if q.what != NO_SERVICE]
        asked = [q for q in asked if q.who != HAIRPIN and q.packet.destination not in _LOOPBACK]
        for question in sorted(rng.sample(asked, min(MOST_PACKETS, len(asked)))):
            outcome = expected(oracle, question.packet, mode)
            yield Flow(str(question), question.origin, question.packet, outcome, None)


_LOOPBACK = (bytes((127, 0, 0, 1)), bytes(15) + b"\1")


def _shrunk(target: Target, bench: Bench, seed: int, story: list[list[Json]], found: Result) -> Result:
    """Remove steps, Services and endpoints as long as the case still fails."""
    tries, smaller = SHRINKING_TRIES, True
    while smaller and tries:
        smaller = False
        for candidate in _smaller(story):
            if not tries:
                break
            tries -= 1
            result = bench.run(_entry(target, seed, candidate))
            if result.failures:
                story, found, smaller = candidate, result, True
                break
    manifests = [{"step": number, "objects": objects} for number, objects in enumerate(story)]
    found.why = f"made as small as it can be: {msgspec.json.encode(manifests).decode()}"
    return found


def _smaller(story: list[list[Json]]) -> Iterator[list[list[Json]]]:
    """Slightly smaller histories, the largest reductions first."""
    if len(story) > 1:
        yield from (story[:n] + story[n + 1 :] for n in range(len(story)))
    names = {each["metadata"]["name"] for objects in story for each in objects if each["kind"] == "Service"}
    for name in sorted(names) if len(names) > 1 else ():
        gone = (name, f"{name}-a")
        yield [[each for each in objects if each["metadata"]["name"] not in gone] for objects in story]
    for number, objects in enumerate(story):
        for place, each in enumerate(objects):
            for index in range(len(each.get("endpoints") or ())):
                less: Any = copy.deepcopy(story)
                del less[number][place]["endpoints"][index]
                yield less
