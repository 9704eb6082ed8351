"""Each Service's contribution to the behaviour, merged Service by Service. Pure.

If several Services claim an address and port, the first by name determines the outcome, in some modes the first with
usable endpoints; in some modes the source ranges of all of them apply.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from harness.judge.behaviour import Chains, Destination, Key, Target
from harness.judge.oracle import ipsets
from harness.judge.oracle.frontends import Ranges

Name = tuple[str, str]
_Place = TypeVar("_Place", Key, tuple[int, int])


class Claim(NamedTuple):
    """One Service's claim of a place; `adds` are source ranges that apply even if another Service has it.

    `yields`: to any Service that does not.
    """

    destination: Destination
    adds: Ranges | None = None
    yields: bool = False


@dataclass
class Part:
    """The contribution of one Service to one family in one mode, independent of other Services."""

    cluster_ip: bytes
    health_check_ports: set[int]
    destinations: dict[Key, Claim] = field(default_factory=dict)
    nodeports: dict[tuple[int, int], Claim] = field(default_factory=dict)
    external: set[str] = field(default_factory=set)
    firewalls: set[str] = field(default_factory=set)
    guarded: set[Key] = field(default_factory=set)
    own_endpoints: set[Key] = field(default_factory=set)
    sets: ipsets.Sets = field(default_factory=dict)

    def claim(self, key: Key, destination: Destination, adds: Ranges | None = None, yields: bool = False) -> None:
        """If the Service claims a place twice, the first claim counts, with the ranges of both."""
        self.destinations[key] = _joined(self.destinations.get(key), Claim(destination, adds, yields))


def _joined(before: Claim | None, later: Claim) -> Claim:
    if before is None:
        return later
    if later.adds is None:
        return before
    allowed = later.adds | (before.destination.allowed or frozenset())
    adds = later.adds | (before.adds or frozenset())
    return before._replace(destination=before.destination._replace(allowed=allowed), adds=adds)


class _Places(Generic[_Place]):
    """The claims of each place, and the resulting destinations."""

    def __init__(self) -> None:
        self._claims: dict[_Place, dict[Name, Claim]] = {}
        self.settled: dict[_Place, Destination] = {}
        self.losers: dict[_Place, list[Destination]] = {}
        """The claims of a place by Services other than the one that has it."""

    def replace(self, name: Name, old: dict[_Place, Claim], new: dict[_Place, Claim]) -> None:
        """Replace a Service's claims."""
        for place in old:
            del self._claims[place][name]
        for place, claim in new.items():
            self._claims.setdefault(place, {})[name] = claim
        for place in old | new:
            self._settle(place)

    def _settle(self, place: _Place) -> None:
        claims = self._claims[place]
        self.losers.pop(place, None)
        if not claims:
            del self._claims[place], self.settled[place]
            return
        found: Claim | None = None
        order = sorted(claims, key=lambda name: (claims[name].yields, name))
        for name in order:
            found = _joined(found, claims[name])
        if found is not None:
            self.settled[place] = found.destination
        if len(order) > 1:
            self.losers[place] = [claims[name].destination for name in order[1:]]


_Item = TypeVar("_Item", bytes, int, str, Key)


class _Union(Generic[_Item]):
    """A union of sets from which each set can be removed again."""

    def __init__(self) -> None:
        self._counts: Counter[_Item] = Counter()

    def replace(self, old: Iterable[_Item], new: Iterable[_Item]) -> None:
        self._counts.update(new)
        for item in old:
            self._counts[item] -= 1
            if not self._counts[item]:
                del self._counts[item]

    def __iter__(self) -> Iterator[_Item]:
        return iter(self._counts)


class Merged:
    """All parts of one family and mode."""

    def __init__(self) -> None:
        self._parts: dict[Name, Part] = {}
        self.destinations: _Places[Key] = _Places()
        self.nodeports: _Places[tuple[int, int]] = _Places()
        self.cluster_ips: _Union[bytes] = _Union()
        self.health_check_ports: _Union[int] = _Union()
        self.own_endpoints: _Union[Key] = _Union()
        self._external: _Union[str] = _Union()
        self._firewalls: _Union[str] = _Union()
        self._guarded: _Union[Key] = _Union()

    def replace(self, name: Name, part: Part | None) -> None:
        """Replace a Service's part; None if it contributes nothing."""
        nothing = Part(b"", set())
        old, new = self._parts.pop(name, nothing), part or nothing
        if part:
            self._parts[name] = part
        self.destinations.replace(name, old.destinations, new.destinations)
        self.nodeports.replace(name, old.nodeports, new.nodeports)
        self.cluster_ips.replace([old.cluster_ip] if old.cluster_ip else (), [new.cluster_ip] if new.cluster_ip else ())
        self.health_check_ports.replace(old.health_check_ports, new.health_check_ports)
        self.own_endpoints.replace(old.own_endpoints, new.own_endpoints)
        self._external.replace(old.external, new.external)
        self._firewalls.replace(old.firewalls, new.firewalls)
        self._guarded.replace(old.guarded, new.guarded)

    @property
    def overshadowed(self) -> frozenset[frozenset[Target]]:
        """Endpoint sets that no destination uses, as another Service has their destinations."""
        losers = [*self.destinations.losers.values(), *self.nodeports.losers.values()]
        outcomes = [outcome for wished in losers for each in wished for outcome in each.outcomes]
        return frozenset(outcome[1] for outcome in outcomes if outcome[0] == "dnat")

    @property
    def chains(self) -> Chains:
        """The chains of mode iptables."""
        return Chains(frozenset(self._external), frozenset(self._firewalls), frozenset(self._guarded))

    def all_sets(self, held: Iterable[bytes]) -> ipsets.Sets:
        """The entries of mode ipvs: of frontends, of the `held` addresses, and of endpoints."""
        found = ipsets.none()
        for part in self._parts.values():
            for name, entries in part.sets.items():
                found[name] |= entries
        found["IPVS-IPS"] |= {str(ipaddress.ip_address(address)) for address in held}
        found["HEALTH-CHECK-NODE-PORT"] |= set(map(str, self.health_check_ports))
        for address, protocol, port in self.own_endpoints:
            found["LOOP-BACK"].add(f"{ipsets.ip_port(address, protocol, port)},{ipaddress.ip_address(address)}")
        return found
