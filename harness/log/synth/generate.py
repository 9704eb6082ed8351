"""The generator: the initial list, its bookmarks, and churn stories interleaved by time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import msgspec

from harness.events import FORMAT, VERSION, Event, Header
from harness.synth import addresses, manifests, stories
from harness.synth.lost_node import node_lost
from harness.synth.options import Options
from harness.synth.world import Change, World

START = "2026-01-01T00:00:00Z"
RESOURCES = ("nodes", "services", "endpointslices")

SPAN = 600 * stories.SECOND
"""How long the churn takes, roughly, however many events it has."""

GAP = SPAN * 6
"""Over the number of events: the longest wait between two stories' starts, so that churn fills SPAN."""


def generate(options: Options) -> tuple[Header, Iterator[Event]]:
    """The header and a stream of events, the same for equal options on every machine.

    Events are made as they are asked for. Raises ValueError when the churn uses up the podCIDRs.
    """
    return header(options), _number(options)


def header(options: Options) -> Header:
    """A header that names the seed and options, enough to make the recording again."""
    dual = options.dual_stack
    service_cidrs = [addresses.SERVICE_CIDR4, *([addresses.SERVICE_CIDR6] if dual else [])]
    pod_cidrs = [addresses.POD_CIDR4, *([addresses.POD_CIDR6] if dual else [])]
    return Header(
        format=FORMAT,
        version=VERSION,
        resources=RESOURCES,
        start=START,
        cluster={
            "name": f"synth-{options.seed}",
            "clusterCIDR": ",".join(pod_cidrs),
            "serviceCIDRs": service_cidrs,
        },
        generator={"name": "synth", "seed": options.seed, "options": options.as_dict()},
    )


def _number(options: Options) -> Iterator[Event]:
    """Events with their `seq`, from 1: the initial list at t=0, then `options.churn` more."""
    world = World(options)
    seq = 0
    for kind, resource, made in _initial(world):
        seq += 1
        yield Event(seq, 0, kind, resource, msgspec.Raw(msgspec.json.encode(made)))
    for t, (kind, resource, made) in _churn(world, options.churn):
        seq += 1
        yield Event(seq, t, kind, resource, msgspec.Raw(msgspec.json.encode(made)))


def _initial(world: World) -> Iterator[Change]:
    """ADDED for every node, Service and slice, then a BOOKMARK for each resource."""
    for node in world.nodes:
        yield world.say_node("ADDED", node)
    for _ in range(world.options.services):
        yield world.say_service("ADDED", world.add_service())
    for service in world.services:
        world.fill(service)
        for piece in service.slices:
            yield from world.say_slice("ADDED", service, piece)
    for resource in RESOURCES:
        yield "BOOKMARK", resource, manifests.bookmark(resource, world.version)


def _churn(world: World, count: int) -> Iterator[tuple[int, Change]]:
    """`count` changes as (t in ns, change), t strictly rising; stories take turns by time."""
    now = told = 0
    gap = GAP // max(1, count)
    # The second entry breaks ties, so that a heap never has to compare generators.
    heap: list[tuple[int, int, stories.Story]] = [(SPAN * 3 // 10, 0, node_lost(world))]
    arrival, born = 0, 0
    while told < count:
        while not heap or arrival <= heap[0][0]:
            born += 1
            heapq.heappush(heap, (arrival, born, _draw(world)))
            arrival += world.rng.randrange(1, gap + 1)
        due, order, story = heapq.heappop(heap)
        changes, delay = next(story, (None, 0))
        if changes is None:
            continue
        for change in changes[: count - told]:
            now = max(now + stories.MILLISECOND // 10, due)
            told += 1
            yield now, change
        heapq.heappush(heap, (max(now, due) + delay, order, story))


def _draw(world: World) -> stories.Story:
    """A story of the mix."""
    told = world.rng.choices([tell for tell, _ in stories.MIX], weights=[weight for _, weight in stories.MIX])
    return told[0](world)
