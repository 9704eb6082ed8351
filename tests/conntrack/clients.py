"""Clients that keep their source port, a cluster that changes under them, and the kernel's list of flows."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from itertools import count

from engine.config import NEWEST, ProxyConfig
from engine.kernel.conntrack import ConntrackTable
from engine.kernel.netlink import NETFILTER
from engine.proxier import Proxier, Sync
from harness.conformance.corpus.clusters import NODE, POD
from harness.judge.oracle.settings import packed
from harness.modes import mode_of
from harness.places.place import Place
from harness.places.wire import request
from harness.places.world import OUTSIDE_INTERFACE, World

ENDS = tuple(f"10.180.0.{n}" for n in range(1, 7))
PODS = (POD, *ENDS)
NODE_ADDRESSES = (NODE, "2001:db8::1")
QUIET_SECONDS, LIMIT_SECONDS = 1.0, 20.0
RESOURCES = {"Service": "services", "EndpointSlice": "endpointslices", "Node": "nodes"}


class Clients:
    """Sends first packets and reports the endpoint reached; `put` and `delete` change the cluster and sync."""

    def __init__(self, world: World, proxier: Proxier) -> None:
        self.world, self.proxier = world, proxier
        self._numbers = count(1)

    def put(self, *manifests: dict) -> Sync:
        """Put objects and sync."""
        return self._change("MODIFIED", manifests)

    def delete(self, *manifests: dict) -> Sync:
        """Delete objects and sync."""
        return self._change("DELETED", manifests)

    def _change(self, kind: str, manifests: tuple[dict, ...]) -> Sync:
        for manifest in manifests:
            self.proxier.state.observe(kind, RESOURCES[manifest["kind"]], json.dumps(manifest).encode())
        return self.proxier.sync()

    def ask(self, source: tuple[str, int], target: tuple[str, int], protocol: int) -> str | None:
        """The endpoint ("10.180.0.1:53") that a packet reaches, None if none."""
        number = next(self._numbers)
        origin = self.world.pods_interface if source[0] in PODS else OUTSIDE_INTERFACE
        self.world.send(origin, request(number, protocol, _packed(source), _packed(target)))
        for sighting in self.world.sightings(QUIET_SECONDS, LIMIT_SECONDS):
            if sighting.seen.number == number and sighting.seen.kind == "request":
                address, port = sighting.seen.destination
                return f"{ip_address(address)}:{port}"
        return None

    def flows(self) -> set[tuple[str, str, int]]:
        """(protocol, original destination, source port) of every flow, as the kernel lists them."""
        text = self.world.node.run(["cat", "/proc/net/nf_conntrack"]).stdout.decode()
        pattern = r"(udp|tcp|sctp) .*?src=\S+ dst=(\S+) sport=(\d+) dport=(\d+)"
        return {
            (m[1], f"{ip_address(m[2])}:{m[4]}", int(m[3]))
            for line in text.splitlines()
            if (m := re.search(pattern, line))
        }


def _packed(end: tuple[str, int]) -> tuple[bytes, int]:
    return packed(end[0]), end[1]


@contextmanager
def clients(mode: str, version: tuple[int, int] = NEWEST) -> Iterator[Clients]:
    """A separate World, with a proxier that removes stale flows after its syncs."""
    module = mode_of(mode)
    nodes = tuple(map(packed, NODE_ADDRESSES))
    config = ProxyConfig(node_addresses=nodes, local_addresses=nodes, version=version)
    with World(user=module.user_namespace) as world:
        place = Place("netns", world.node.socket, world.node.run)
        world.add_addresses(list(nodes))
        world.route_to_pods([packed(address) for address in PODS])
        with module.real(place) as opened:
            table = ConntrackTable(place.make_socket(16, 3, NETFILTER))
            yield Clients(world, Proxier(mode, config, opened.kernel, time.perf_counter, "n1", table))
            table.close()
