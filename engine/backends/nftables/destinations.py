"""The elements that map the destinations of a Service's ports to its endpoint sets, or drop or reject them."""

from __future__ import annotations

from engine.addresses import collapse, last_address
from engine.backends.claims import Owner, Wanted
from engine.backends.nftables.program import SetChange
from engine.dataplane import PortPlan
from engine.model import Name

Elements = Wanted[tuple[str, bytes], bytes]
"""By set and key, the data."""
Places = tuple[tuple[str, bytes], ...]
"""The maps and sets that contain a destination, each with its data."""
Destinations = Wanted[tuple[str, bytes], Places]
"""By kind (services or nodeports) and key.  A destination belongs to one Service as a whole."""


def move(key: bytes, before: dict[str, bytes], now: dict[str, bytes], sets: dict[str, SetChange]) -> None:
    """Add the changes of one destination's places to `sets`."""
    for name in before.keys() | now.keys():
        if before.get(name) != now.get(name):
            change = sets.setdefault(name, SetChange(name))
            if name in before:
                change.delete.append(key)
            if name in now:
                change.put(key, now[name])


def frontends(
    service: Name,
    port: PortPlan,
    cluster: bytes | None,
    local: bytes | None,
    wanted: Elements,
    destinations: Destinations,
) -> None:
    """Add the elements for the destinations of one port; Services with usable endpoints take precedence."""
    owner = (service, port.name, port.protocol, False)
    ranked = (not port.any_usable, *owner)
    tail = bytes((port.protocol, 0, 0, 0)) + port.port.to_bytes(2, "big") + b"\0\0"
    destination = port.cluster_ip + tail
    wanted[("cluster-ips", port.cluster_ip), owner] = b""
    internal = local if port.internal_local else cluster
    if internal:
        destinations[("services", destination), ranked] = (("services", internal),)
    elif port.any_usable:
        destinations[("services", destination), ranked] = (("drop-services", b""),)
    for ip in port.external_ips + port.load_balancer_ips:
        destinations.setdefault((("services", ip + tail), ranked), _external("services", port, cluster, local))
    if port.node_port:
        key = bytes((port.protocol, 0, 0, 0)) + port.node_port.to_bytes(2, "big") + b"\0\0"
        destinations[("nodeports", key), ranked] = _external("nodeports", port, cluster, local)
    if port.allowed is not None:
        _firewall(port, tail, owner, wanted)


def _external(kind: str, port: PortPlan, cluster: bytes | None, local: bytes | None) -> Places:
    """The places of an external destination, by external traffic policy (ETP-01 to ETP-04)."""
    if not port.any_usable or not (cluster or port.external_local):
        return ((f"reject-{kind}", b""),)
    if cluster and not port.external_local:
        return (("external-services" if kind == "services" else "nodeports", cluster),)
    here = (f"local-{kind}", local) if local else (f"drop-{kind}", b"")
    return (
        (("short-circuits" if kind == "services" else "short-circuit-nodeports", cluster), here) if cluster else (here,)
    )


def _firewall(port: PortPlan, tail: bytes, owner: Owner, wanted: Elements) -> None:
    """Load balancer addresses with source ranges; key and key end of each range."""
    for ip in port.load_balancer_ips:
        wanted[("firewalled", ip + tail), owner] = b""
        for network in collapse(port.allowed or ()):
            first, last = ip + tail + network.address, ip + tail + last_address(network)
            wanted[("firewall-allowed", first + last), owner] = b""
