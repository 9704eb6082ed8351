"""The elements that map the destinations of a Service's ports to its endpoint sets, or drop or reject them."""

from __future__ import annotations

from functools import cache

from engine.addresses import collapse, last_address
from engine.backends.claims import Owner, Wanted
from engine.backends.nftables.program import SetChanges
from engine.dataplane import PortPlan

Places = tuple[tuple[str, bytes], ...]
"""The maps and sets that contain a key, each with its data."""
Elements = Wanted[tuple[str, bytes], Places]
"""By kind (services, nodeports or a set's name) and key.  A destination belongs to one Service as a whole."""

_CLUSTER_IP: Places = (("cluster-ips", b""),)
_DROPPED: Places = (("drop-services", b""),)


def move(key: bytes, before: Places, now: Places, sets: SetChanges) -> None:
    """Add the changes of one key's places to `sets`."""
    for place in before:
        if place not in now:
            sets[place[0]].delete.append(key)
    for place in now:
        if place not in before:
            sets[place[0]].put(key, place[1])


def frontends(owner: Owner, port: PortPlan, cluster: bytes | None, local: bytes | None, wanted: Elements) -> None:
    """Add the elements for the destinations of one port; Services with usable endpoints take precedence."""
    ranked = (not port.any_usable, owner)
    tail = registers(port.protocol, port.port)
    wanted[("cluster-ips", port.cluster_ip), owner] = _CLUSTER_IP
    if internal := local if port.internal_local else cluster:
        wanted[("services", port.cluster_ip + tail), ranked] = (("services", internal),)
    elif port.any_usable:
        wanted[("services", port.cluster_ip + tail), ranked] = _DROPPED
    for ip in port.external_ips + port.load_balancer_ips:
        wanted.setdefault((("services", ip + tail), ranked), _external("services", port, cluster, local))
    if port.node_port:
        key = registers(port.protocol, port.node_port)
        wanted[("nodeports", key), ranked] = _external("nodeports", port, cluster, local)
    if port.allowed is not None:
        _firewall(port, tail, owner, wanted)


@cache
def registers(protocol: int, port: int) -> bytes:
    """Protocol and port as in a key, each in a register of four bytes; shared by all keys."""
    return bytes((protocol, 0, 0, 0)) + port.to_bytes(2, "big") + b"\0\0"


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
        wanted[("firewalled", ip + tail), owner] = (("firewalled", b""),)
        for network in collapse(port.allowed or ()):
            first, last = ip + tail + network.address, ip + tail + last_address(network)
            wanted[("firewall-allowed", first + last), owner] = (("firewall-allowed", b""),)
