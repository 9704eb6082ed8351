"""What kube-proxy of another Kubernetes version would do differently in the state at the end of a recording.

The oracle computes the behaviour per version, mode and family; every destination whose outcome differs between two
consecutive versions is a row, with the Service it belongs to.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from harness.judge.behaviour import PROTOCOLS, Behaviour, Destination
from harness.judge.oracle import Oracle, Settings
from harness.judge.oracle.differences import outcome_in_words, place_in_words, source_in_words
from harness.judge.oracle.modes import TRAITS
from harness.judge.oracle.settings import packed
from harness.log.events import Event, JsonObject
from harness.replay.compare.result import UpgradeRow
from harness.wording import plural

FAMILIES = (4, 6)
Version = tuple[int, int]


def upgrade(
    events: Sequence[Event], node: str | None, settings: Settings, versions: Sequence[Version], modes: Sequence[str]
) -> list[UpgradeRow]:
    """Rows in the order of modes and versions; `versions` are ascending, and override the version in `settings`."""
    rows: list[UpgradeRow] = []
    oracles = {version: _oracle(events, node, settings, version) for version in versions}
    owners = _owners(events)
    for mode in modes:
        for old, new in zip(versions, versions[1:], strict=False):
            for family in FAMILIES:
                before, after = (oracles[version].behaviour(family, mode) for version in (old, new))
                since = ".".join(map(str, new))
                found = [*_destinations(before, after, owners), *_node_addresses(before, after, family)]
                if TRAITS[mode].own_endpoints:
                    found += _hairpins(oracles[old], oracles[new], after, family)
                if TRAITS[mode].rejects_on_loopback:
                    found += _loopback(oracles[old], oracles[new], after, family, owners)
                rows += [UpgradeRow(mode, since, *each) for each in found]
    return rows


def _oracle(events: Sequence[Event], node: str | None, settings: Settings, version: Version) -> Oracle:
    oracle = Oracle(node, dataclasses.replace(settings, version=version))
    for event in events:
        oracle.observe(event)
    return oracle


Key = tuple[bytes, int, int] | tuple[int, int]
BehaviourChange = tuple[str, str, str, str]
"""Service, where, before, after."""


def _owners(events: Iterable[Event]) -> dict[Key, str]:
    """Services by (address, protocol, port) and by (protocol, node port); the first by name wins."""
    import msgspec

    services: dict[tuple[str, str], JsonObject] = {}
    for event in events:
        if event.resource == "services" and event.type in ("ADDED", "MODIFIED", "DELETED"):
            manifest = msgspec.json.decode(event.object)
            meta = manifest["metadata"]
            services[meta.get("namespace", ""), meta["name"]] = manifest
    owners: dict[Key, str] = {}
    for name, manifest in sorted(services.items()):
        spec = manifest.get("spec") or {}
        texts = [spec.get("clusterIP"), *(spec.get("clusterIPs") or ()), *(spec.get("externalIPs") or ())]
        ingress = ((manifest.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        texts += [entry.get("ip") for entry in ingress]
        for port in spec.get("ports") or ():
            protocol = PROTOCOLS[port.get("protocol") or "TCP"]
            for address in _addresses(texts):
                owners.setdefault((address, protocol, port["port"]), "/".join(name))
            if port.get("nodePort"):
                owners.setdefault((protocol, port["nodePort"]), "/".join(name))
    return owners


def _addresses(texts: Iterable[str | None]) -> Iterator[bytes]:
    for text in texts:
        try:
            if text:
                yield packed(text)
        except ValueError:
            continue  # "None", or an external IP that is not an address


def _destinations(old: Behaviour, new: Behaviour, owners: dict[Key, str]) -> Iterator[BehaviourChange]:
    for table in ("destinations", "nodeports"):
        before, after = getattr(old, table), getattr(new, table)
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                words = _in_words(before.get(key), after.get(key))
                yield owners.get(key, ""), place_in_words(key), *words


def _in_words(before: Destination | None, after: Destination | None) -> tuple[str, str]:
    """The shortest descriptions that distinguish the two."""
    listed = [each for each in (before, after) if each is not None]
    everyone = frozenset().union(*(o[1] for each in listed for o in each[:3] if o[0] == "dnat"))
    for say in (lambda d: outcome_in_words(d, everyone), source_in_words, _ends, _sticky):
        words = say(before), say(after)
        if words[0] != words[1]:
            return words
    return "old source ranges", "new source ranges"


def _ends(destination: Destination | None) -> str:
    found = {end for outcome in (destination or ())[:3] if outcome[0] == "dnat" for end in outcome[1]}
    return ", ".join(f"{ipaddress.ip_address(address)}:{port}" for address, port in sorted(found)) or "no endpoint"


def _sticky(destination: Destination | None) -> str:
    return f"session affinity of {destination.affinity_seconds} s" if destination else "left alone"


def _node_addresses(old: Behaviour, new: Behaviour, family: int) -> Iterator[BehaviourChange]:
    if old.node_addresses != new.node_addresses and (old.nodeports or new.nodeports):
        yield "", f"IPv{family} addresses that accept node ports", _taking(old), _taking(new)


def _taking(view: Behaviour) -> str:
    if view.node_addresses is None:
        return "every local address"
    return ", ".join(str(ipaddress.ip_address(a)) for a in sorted(view.node_addresses)) or "none"


def _hairpins(old: Oracle, new: Oracle, after: Behaviour, family: int) -> Iterator[BehaviourChange]:
    """Endpoints of other nodes that connect to themselves (HAIR-01a)."""
    if old.settings.version < (1, 36) <= new.settings.version:
        count = sum(len(_remote(new, after, family, protocol)) for protocol in PROTOCOLS.values())
        if count:
            yield (
                "",
                f"{plural(count, f'IPv{family} endpoint')} of other nodes, connecting to themselves through this node",
                *HAIRPIN,
            )


def _loopback(
    old: Oracle, new: Oracle, after: Behaviour, family: int, owners: dict[Key, str]
) -> Iterator[BehaviourChange]:
    """Node ports on loopback (NP-11, NP-12)."""
    loopback = "127.0.0.1" if family == 4 else "::1"
    size = 4 if family == 4 else 16
    for key in sorted(after.nodeports):
        words = [_on_loopback(oracle.settings, key[0], size) for oracle in (old, new)]
        if words[0] != words[1]:
            yield owners.get(key, ""), f"{loopback} {place_in_words(key)}", words[0], words[1]


HAIRPIN = ("masqueraded", "source address kept")


def _remote(oracle: Oracle, view: Behaviour, family: int, protocol: int) -> set[tuple[bytes, int]]:
    """Endpoints of all destinations that are not on this node."""
    tables = (view.destinations, view.nodeports)
    found = {
        end
        for table in tables
        for key, destination in table.items()
        if key[-2] == protocol
        for outcome in destination[:3]
        if outcome[0] == "dnat"
        for end in outcome[1]
    }
    return found - oracle.on_node(family, protocol)


def _on_loopback(settings: Settings, protocol: int, size: int) -> str:
    if not settings.gate("KubeProxyNFTablesLocalhostNodePorts"):
        return "left alone"
    served = protocol == PROTOCOLS["TCP"] and settings.localhost_served(size)
    return "served by kube-proxy itself" if served else "refused"
