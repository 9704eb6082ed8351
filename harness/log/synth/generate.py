"""The generator: the initial list, its bookmarks, and churn stories interleaved by time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import msgspec

from harness.kube.resources import PROXIED
from harness.log.events import FORMAT, VERSION, Event, Header
from harness.log.synth import addresses, manifests, stories
from harness.log.synth.lost_node import node_lost
from harness.log.synth.options import SynthOptions
from harness.log.synth.world import SyntheticCluster, WorldChange

START = "2026-01-01T00:00:00Z"

SPAN = 600 * stories.SECOND
"""Approximate duration of the churn, whatever the number of events."""

GAP = SPAN * 6
"""Divided by the number of events: the longest wait between the starts of two stories, so that churn fills SPAN."""


def generate(options: SynthOptions) -> tuple[Header, Iterator[Event]]:
    """The header and a stream of events, the same for equal options on every machine.

    Events are generated lazily.  Raises ValueError if the churn exhausts the podCIDRs.
    """
    return header(options), _number(options)


def header(options: SynthOptions) -> Header:
    """A header with the seed and options, which suffice to regenerate the recording."""
    dual = options.dual_stack
    service_cidrs = [addresses.SERVICE_CIDR4, *([addresses.SERVICE_CIDR6] if dual else [])]
    pod_cidrs = [addresses.POD_CIDR4, *([addresses.POD_CIDR6] if dual else [])]
    return Header(
        format=FORMAT,
        version=VERSION,
        resources=PROXIED,
        start=START,
        cluster={
            "name": f"synth-{options.seed}",
            "clusterCIDR": ",".join(pod_cidrs),
            "serviceCIDRs": service_cidrs,
        },
        generator={"name": "synth", "seed": options.seed, "options": options.as_dict()},
    )


def _number(options: SynthOptions) -> Iterator[Event]:
    """Events with their `seq`, from 1: the initial list at t=0, then `options.churn` more."""
    world = SyntheticCluster(options)
    seq = 0
    for kind, resource, made in _initial(world):
        seq += 1
        yield Event(seq, 0, kind, resource, msgspec.Raw(msgspec.json.encode(made)))
    for t, (kind, resource, made) in _churn(world, options.churn):
        seq += 1
        yield Event(seq, t, kind, resource, msgspec.Raw(msgspec.json.encode(made)))


def _initial(world: SyntheticCluster) -> Iterator[WorldChange]:
    """ADDED for every node, Service and slice, then a BOOKMARK for each resource."""
    for node in world.nodes:
        yield world.say_node("ADDED", node)
    for _ in range(world.options.services):
        yield world.say_service("ADDED", world.add_service())
    for service in world.services:
        world.fill(service)
        for piece in service.slices:
            yield from world.say_slice("ADDED", service, piece)
    for resource in PROXIED:
        yield "BOOKMARK", resource, manifests.bookmark(resource, world.version)


def _churn(world: SyntheticCluster, count: int) -> Iterator[tuple[int, WorldChange]]:
    """`count` changes as (t in ns, change), t strictly rising; stories take turns by time."""
    now = done = 0
    gap = GAP // max(1, count)
    # The second entry breaks ties, so that the heap never compares generators.
    heap: list[tuple[int, int, stories.Story]] = [(SPAN * 3 // 10, 0, node_lost(world))]
    arrival, born = 0, 0
    while done < count:
        while not heap or arrival <= heap[0][0]:
            born += 1
            heapq.heappush(heap, (arrival, born, _draw(world)))
            arrival += world.rng.randrange(1, gap + 1)
        due, order, story = heapq.heappop(heap)
        changes, delay = next(story, (None, 0))
        if changes is None:
            continue
        for change in changes[: count - done]:
            now = max(now + stories.MILLISECOND // 10, due)
            done += 1
            yield now, change
        heapq.heappush(heap, (max(now, due) + delay, order, story))


def _draw(world: SyntheticCluster) -> stories.Story:
    """A random story, by weight."""
    drawn = world.rng.choices([story for story, _ in stories.MIX], weights=[weight for _, weight in stories.MIX])
    return drawn[0](world)
