"""Churn of a cluster: each kind of change is a story, in steps.

A story is a generator of (changes, delay in ns until it continues).  Stories overlap, so after every
wait a story checks whether its objects still exist.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.log.synth.edits import edit
from harness.log.synth.model import Endpoint, Service
from harness.log.synth.world import SyntheticCluster, WorldChange

MILLISECOND = 1_000_000
SECOND = 1_000 * MILLISECOND

Story = Iterator[tuple[list[WorldChange], int]]


def seconds(world: SyntheticCluster, low: int, high: int) -> int:
    """A wait of `low` to `high` seconds, in ns, down to the microsecond."""
    return world.rng.randrange(low * 1_000_000, high * 1_000_000) * 1_000


def pick(world: SyntheticCluster, with_endpoints: bool) -> Service | None:
    """A random existing Service, None if twenty tries found none with endpoints.

    The smaller of two drawn: a change resends the whole slice, and large slices would inflate the file.
    """
    for _ in range(20 if world.services else 0):
        drawn = [world.services[world.rng.randrange(len(world.services))] for _ in range(2)]
        service = min(drawn, key=Service.endpoint_count)
        if not with_endpoints or any(piece.endpoints for piece in service.slices):
            return service
    return None


def any_endpoint(world: SyntheticCluster, service: Service) -> Endpoint | None:
    """A random endpoint that is not terminating, or None."""
    staying = [one for piece in service.slices for one in piece.endpoints if not one.terminating]
    return staying[world.rng.randrange(len(staying))] if staying else None


def set_conditions(
    world: SyntheticCluster, service: Service, endpoint: Endpoint, **conditions: bool
) -> list[WorldChange]:
    """Set conditions of an endpoint; no change if it or its Service is gone."""
    piece = service.holder(endpoint) if service.alive else None
    if piece is None or (endpoint.terminating and conditions["ready"]):
        return []  # a terminating pod never becomes ready again
    if not world.nodes[endpoint.node].alive:
        conditions["ready"] = conditions["serving"] = False  # nothing reports from a lost node
    for name, value in conditions.items():
        setattr(endpoint, name, value)
    return world.say_slice("MODIFIED", service, piece)


def take_out(world: SyntheticCluster, service: Service, endpoint: Endpoint) -> list[WorldChange]:
    """Remove an endpoint; no change if it or its Service is gone."""
    piece = service.holder(endpoint) if service.alive else None
    return [] if piece is None else world.remove(service, piece, [endpoint])


def rolling_update(world: SyntheticCluster) -> Story:
    """Replace up to six endpoints, one after the other: new one, ready, old one drains, gone."""
    service = pick(world, with_endpoints=True)
    if service is None:
        return
    for _ in range(min(service.endpoint_count(), 6)):
        old = any_endpoint(world, service) if service.alive else None
        if old is None:
            return
        yield set_conditions(world, service, old, ready=False, terminating=True), seconds(world, 0, 1)
        if not service.alive:
            return
        new = world.new_endpoint(ready=False)
        yield world.place(service, new), seconds(world, 2, 8)
        yield set_conditions(world, service, new, ready=True, serving=True), seconds(world, 1, 10)
        yield take_out(world, service, old), seconds(world, 0, 2)


def probe_flap(world: SyntheticCluster) -> Story:
    """A readiness probe fails, and passes again some seconds later."""
    service = pick(world, with_endpoints=True)
    endpoint = any_endpoint(world, service) if service else None
    if service is None or endpoint is None:
        return
    yield set_conditions(world, service, endpoint, ready=False, serving=False), seconds(world, 5, 30)
    yield set_conditions(world, service, endpoint, ready=True, serving=True), 0


def scale_up(world: SyntheticCluster) -> Story:
    """Adds one to four pods, initially not ready."""
    service = pick(world, with_endpoints=False)
    if service is None or not service.slices:
        return  # an ExternalName, or so new that it has no slices yet
    for _ in range(world.rng.randint(1, 4)):
        if not service.alive:
            return
        endpoint = world.new_endpoint(ready=False)
        yield world.place(service, endpoint), seconds(world, 1, 6)
        yield set_conditions(world, service, endpoint, ready=True, serving=True), seconds(world, 0, 2)


def scale_down(world: SyntheticCluster) -> Story:
    """Removes one to three pods; each drains first."""
    service = pick(world, with_endpoints=True)
    for _ in range(world.rng.randint(1, 3)):
        endpoint = any_endpoint(world, service) if service and service.alive else None
        if service is None or endpoint is None:
            return
        yield set_conditions(world, service, endpoint, ready=False, terminating=True), seconds(world, 2, 15)
        yield take_out(world, service, endpoint), seconds(world, 0, 2)


def service_add(world: SyntheticCluster) -> Story:
    """A new Service, and its slices once the controller has seen it."""
    service = world.add_service()
    yield [world.say_service("ADDED", service)], seconds(world, 0, 1)
    if not service.alive:
        return
    world.fill(service)
    # All in one step: a slice that other stories can find must have been sent.
    yield [change for piece in service.slices for change in world.say_slice("ADDED", service, piece)], 0


def service_edit(world: SyntheticCluster) -> Story:
    """A port, a policy or a label is changed."""
    service = pick(world, with_endpoints=False)
    if service is not None:
        edit(world, service)
        yield [world.say_service("MODIFIED", service)], 0


def service_delete(world: SyntheticCluster) -> Story:
    """A Service is deleted, its slices first; the last one stays, so that churn can continue."""
    if len(world.services) > 1:
        changes = world.delete_service(world.rng.randrange(len(world.services)))
        yield [change for step in changes for change in step], 0


MIX = (
    (rolling_update, 8), (probe_flap, 28), (scale_up, 11), (scale_down, 10),
    (service_add, 14), (service_edit, 26), (service_delete, 10),
)  # fmt: skip
"""(story, weight); the lost node occurs once and is not drawn."""
