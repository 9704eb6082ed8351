"""The churn scenario that occurs once in every recording: a node is lost, with all its endpoints."""

from __future__ import annotations

from harness.log.synth.model import Service
from harness.log.synth.stories import MILLISECOND, SECOND, Story
from harness.log.synth.world import SyntheticCluster


def node_lost(world: SyntheticCluster) -> Story:
    """A node stops reporting: its endpoints become unready, then it is deleted and its pods are replaced."""
    if len(world.alive_nodes) < 2:
        return
    node = world.alive_nodes.pop(world.rng.randrange(len(world.alive_nodes)))
    node.alive = False
    yield [world.say_node("MODIFIED", node, ready="Unknown")], SECOND
    for service in list(world.services):
        yield from _unready(world, service, node.index)
    yield [], 20 * SECOND
    yield [world.say_node("DELETED", node, ready="Unknown")], SECOND
    for service in list(world.services):
        yield from _replace(world, service, node.index)


def _unready(world: SyntheticCluster, service: Service, node: int) -> Story:
    """Mark the Service's endpoints on node number `node` not ready, slice by slice."""
    for piece in list(service.slices):
        hit = [one for one in piece.endpoints if one.node == node]
        if hit and service.alive and piece in service.slices:
            for one in hit:
                one.ready = one.serving = False
            yield world.say_slice("MODIFIED", service, piece), 10 * MILLISECOND


def _replace(world: SyntheticCluster, service: Service, node: int) -> Story:
    """Replace the Service's endpoints on node number `node` by pods on other nodes, slice by slice."""
    for piece in list(service.slices):
        hit = [one for one in piece.endpoints if one.node == node]
        if hit and service.alive and piece in service.slices:
            piece.endpoints = [one for one in piece.endpoints if one.node != node]
            piece.endpoints += [world.new_endpoint() for _ in hit]
            yield world.say_slice("MODIFIED", service, piece), 40 * MILLISECOND
