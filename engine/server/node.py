"""What the daemon must know of its own Node before it can start: its addresses, and its pod CIDRs (CFG-20, DET-02)."""

from __future__ import annotations

import random
import time
import urllib.parse
from collections.abc import Callable

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


def get_node(api: Api, name: str) -> Node | None:
    """The Node as the API has it now, None when it has none or is not to be reached."""
    try:
        return decode_node(api.get(f"/api/v1/nodes/{urllib.parse.quote(name)}"))
    except (ApiError, ManifestError) as error:
        _log.error(error, "Failed to retrieve node info", node=name)
        return None


def node_ips(api: Api, name: str, bind_address: str, sleep: Sleep = time.sleep) -> tuple[Node | None, NodeIPs]:
    """The Node, and which addresses are this machine's; asked for ATTEMPTS times, each wait twice the last."""
    node = None
    for attempt in range(ATTEMPTS):
        node = get_node(api, name)
        if node is not None and node.addresses + node.external_addresses:
            break
        if not choose_node_ips(None, bind_address).unknown:
            break  # the bind address says it; the Node's other family is not worth the wait
        if attempt < ATTEMPTS - 1:
            sleep(FIRST_RETRY_SECONDS * 2**attempt * (1 + random.random()))
    found = choose_node_ips(node, bind_address)
    if found.unknown:
        _log.info(ASSUMING_LOOPBACK)
    return node, found


def wait_for_pod_cidr(
    api: Api, name: str, sleep: Sleep = time.sleep, clock: Callable[[], float] = time.monotonic
) -> Node:
    """The Node once it has pod CIDRs; NodeError after POD_CIDR_SECONDS."""
    deadline = clock() + POD_CIDR_SECONDS
    while True:
        node = get_node(api, name)
        if node is not None and node.pod_networks:
            return node
        if clock() >= deadline:
            raise NodeError(
                "timeout waiting for PodCIDR allocation to configure detect-local-mode NodeCIDR: "
                f"node {name!r} had none for {POD_CIDR_SECONDS:.0f} s"
            )
        sleep(_POLL_SECONDS)
