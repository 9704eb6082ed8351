"""What the daemon must know of its own Node before it can start: its addresses, and its pod CIDRs (CFG-20, DET-02)."""

from __future__ import annotations

import random
import time
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple

from engine.manifest import ManifestError, decode_node
from engine.model import Node
from engine.server.api import Api, ApiError
from engine.server.logs import get_log
from engine.server.node_ips import ASSUMING_LOOPBACK, ATTEMPTS, FIRST_RETRY_SECONDS, NodeIPs, choose_node_ips

POD_CIDR_SECONDS = 300.0
_POLL_SECONDS = 1.0
Sleep = Callable[[float], None]

_log = get_log(__name__)


class NodeError(RuntimeError):
    """The Node never said what is needed."""


class Seen(NamedTuple):
    """The own Node as the API sent it, and what it says."""

    manifest: bytes
    node: Node


def get_node(api: Api, name: str) -> Seen | None:
    """The Node as the API has it now, None when it has none or is not to be reached."""
    try:
        manifest = api.get(f"/api/v1/nodes/{urllib.parse.quote(name)}")
        return Seen(manifest, decode_node(manifest))
    except (ApiError, ManifestError) as error:
        _log.error(error, "Failed to retrieve node info", node=name)
        return None


def node_ips(api: Api, name: str, bind_address: str, sleep: Sleep = time.sleep) -> tuple[Seen | None, NodeIPs]:
    """The Node, and which addresses are this machine's; asked for ATTEMPTS times, each wait twice the last."""
    seen = None
    for attempt in range(ATTEMPTS):
        seen = get_node(api, name)
        if seen and seen.node.addresses + seen.node.external_addresses:
            break
        if not choose_node_ips(None, bind_address).unknown:
            break  # the bind address says it; the Node's other family is not worth the wait
        if attempt < ATTEMPTS - 1:
            sleep(FIRST_RETRY_SECONDS * 2**attempt * (1 + random.random()))
    found = choose_node_ips(seen and seen.node, bind_address)
    if found.unknown:
        _log.info(ASSUMING_LOOPBACK)
    return seen, found


def wait_for_pod_cidr(
    api: Api, name: str, sleep: Sleep = time.sleep, clock: Callable[[], float] = time.monotonic
) -> Seen:
    """The Node once it has pod CIDRs; NodeError after POD_CIDR_SECONDS."""
    deadline = clock() + POD_CIDR_SECONDS
    _log.info("Waiting for podCIDR", node=name)
    while True:
        seen = get_node(api, name)
        if seen and seen.node.pod_networks:
            return seen
        if clock() >= deadline:
            raise NodeError(
                "timeout waiting for PodCIDR allocation to configure detect-local-mode NodeCIDR: "
                f"node {name!r} had none for {POD_CIDR_SECONDS:.0f} s"
            )
        sleep(_POLL_SECONDS)
