"""Waits for the data of this node's Node object needed at start: addresses and pod CIDRs (CFG-20, DET-02)."""

from __future__ import annotations

import random
import time
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple

from engine.manifest import ManifestError, decode_node
from engine.model import Node
from engine.server.api.client import ApiClient, ApiError
from engine.server.api.node_ips import ASSUMING_LOOPBACK, ATTEMPTS, FIRST_RETRY_SECONDS, NodeIPs, choose_node_ips
from engine.server.runtime.logs import get_log

POD_CIDR_SECONDS = 300.0
ADDRESS_SECONDS = 30.0
WAITS_FOR_THE_API_SINCE = (1, 34)
"""Since this version the start waits for the API, then for an address, whatever the bind address (CFG-20a)."""
_POLL_SECONDS = 1.0
Sleep = Callable[[float], None]
Clock = Callable[[], float]

_log = get_log(__name__)


class NodeError(RuntimeError):
    """The Node object lacks required fields."""


class OwnNode(NamedTuple):
    """This node's Node object: its manifest and decoded value."""

    manifest: bytes
    node: Node


def get_node(api: ApiClient, name: str) -> OwnNode | None:
    """The current Node object; None if it does not exist or is invalid.  ApiError for other failures."""
    try:
        manifest = api.get(f"/api/v1/nodes/{urllib.parse.quote(name)}")
        return OwnNode(manifest, decode_node(manifest))
    except ApiError as error:
        if error.status != 404:
            raise
        _log.error(error, "Failed to retrieve node info", node=name)
    except ManifestError as error:
        _log.error(error, "Failed to retrieve node info", node=name)
    return None


def node_ips(
    api: ApiClient,
    name: str,
    bind_address: str,
    version: tuple[int, int],
    sleep: Sleep = time.sleep,
    clock: Clock = time.monotonic,
) -> tuple[OwnNode | None, NodeIPs]:
    """The Node object and the node's addresses, once they are known or the wait has timed out."""
    waits = version >= WAITS_FOR_THE_API_SINCE
    seen = _wait_for_address(api, name, sleep, clock) if waits else _ask_for_address(api, name, bind_address, sleep)
    found = choose_node_ips(seen and seen.node, bind_address)
    if found.unknown:
        _log.error(None, ASSUMING_LOOPBACK) if waits else _log.info(ASSUMING_LOOPBACK)
    return seen, found


def wait_for_pod_cidr(
    api: ApiClient, name: str, version: tuple[int, int], sleep: Sleep = time.sleep, clock: Clock = time.monotonic
) -> OwnNode:
    """The Node once it has pod CIDRs; NodeError after POD_CIDR_SECONDS."""
    deadline = clock() + POD_CIDR_SECONDS
    _log.info("Waiting for podCIDR", node=name)
    while True:
        seen = _node_or_none(api, name)
        if seen and seen.node.pod_networks:
            return seen
        if clock() >= deadline:
            raise NodeError(_no_pod_cidr(name, version, seen))
        sleep(_POLL_SECONDS)


def _no_pod_cidr(name: str, version: tuple[int, int], seen: OwnNode | None) -> str:
    """The message of the version (DET-02, DET-02a)."""
    if version < WAITS_FOR_THE_API_SINCE:
        return (
            "timeout waiting for PodCIDR allocation to configure detect-local-mode NodeCIDR: "
            f"node {name!r} had none for {POD_CIDR_SECONDS:.0f} s"
        )
    if seen is None:
        return f'timeout waiting for node "{name}" to exist'
    return f'timeout waiting for PodCIDR allocation on node "{name}"'


def _wait_for_address(api: ApiClient, name: str, sleep: Sleep, clock: Clock) -> OwnNode | None:
    """Wait for the API's first response without a limit, then up to ADDRESS_SECONDS for a Node with an address."""
    deadline, seen, reported = None, None, ""
    while True:
        try:
            seen = get_node(api, name)
            if seen and _has_address(seen):
                return seen
            if deadline is None:
                deadline = clock() + ADDRESS_SECONDS
        except ApiError as error:
            if str(error) != reported:
                reported = str(error)
                _log.error(error, "Waiting for the API server to return this node's Node object", node=name)
        if deadline is not None and clock() >= deadline:
            return seen
        sleep(_POLL_SECONDS)


def _ask_for_address(api: ApiClient, name: str, bind_address: str, sleep: Sleep) -> OwnNode | None:
    """Try ATTEMPTS times, with exponential backoff."""
    seen = None
    for attempt in range(ATTEMPTS):
        seen = _node_or_none(api, name)
        if seen and _has_address(seen):
            break
        if not choose_node_ips(None, bind_address).unknown:
            break  # the bind address suffices; do not wait for the Node's other family
        if attempt < ATTEMPTS - 1:
            sleep(FIRST_RETRY_SECONDS * 2**attempt * (1 + random.random()))
    return seen


def _has_address(seen: OwnNode) -> bool:
    return bool(seen.node.addresses + seen.node.external_addresses)


def _node_or_none(api: ApiClient, name: str) -> OwnNode | None:
    try:
        return get_node(api, name)
    except ApiError as error:
        _log.error(error, "Failed to retrieve node info", node=name)
        return None
