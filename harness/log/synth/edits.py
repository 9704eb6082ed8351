"""Typical manual edits of a Service: a port, a node port, a traffic policy, or only a label."""

from __future__ import annotations

from harness.log.synth.model import Service
from harness.log.synth.world import SyntheticCluster


def edit(world: SyntheticCluster, service: Service) -> None:
    """Change one thing about `service`; a label if the drawn edit does not apply to it."""
    drawn = world.rng.choice((_port, _node_port, _traffic_policy, _label))
    if not drawn(world, service):
        _label(world, service)


def _port(world: SyntheticCluster, service: Service) -> bool:
    """Change the first port to a number that the Service does not use."""
    ports = service.spec.get("ports")
    if not ports:
        return False
    used = {port["port"] for port in ports}
    free = [number for number in range(8000, 8100) if number not in used]
    ports[0]["port"] = world.rng.choice(free)
    return True


def _node_port(world: SyntheticCluster, service: Service) -> bool:
    """Allocate another node port for the first port, and free the old one."""
    ports = service.spec.get("ports")
    if not ports or "nodePort" not in ports[0] or not len(world.shapes.node_ports):
        return False
    old = ports[0]["nodePort"]
    ports[0]["nodePort"] = world.shapes.node_ports.take()
    world.shapes.node_ports.release(old)
    return True


def _traffic_policy(world: SyntheticCluster, service: Service) -> bool:
    """Flip the external policy of a NodePort Service, else the internal one."""
    spec = service.spec
    # Changing a LoadBalancer's external policy would also require a health check node port; leave it unchanged.
    name = "externalTrafficPolicy" if spec["type"] == "NodePort" else "internalTrafficPolicy"
    if name not in spec or spec["clusterIP"] == "None":
        return False
    spec[name] = "Cluster" if spec[name] == "Local" else "Local"
    return True


def _label(world: SyntheticCluster, service: Service) -> bool:
    """Set the release label, which requires no action of a proxy."""
    service.labels["release"] = f"r{world.rng.randrange(1000)}"
    return True
