"""The networks that Service addresses come from, as ServiceCIDR objects tell them (CIP-02, NFT-09). No I/O."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from engine.addresses import parse_network
from engine.model import Network
from engine.server.watching import Change


class _Meta(msgspec.Struct):
    name: str = ""


class _Spec(msgspec.Struct):
    cidrs: tuple[str, ...] = ()


class _ServiceCIDR(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _Spec = msgspec.field(default_factory=_Spec)


_decode = msgspec.json.Decoder(_ServiceCIDR).decode


class ServiceNetworks:
    """A fold over their changes."""

    def __init__(self) -> None:
        self._networks: dict[str, tuple[Network, ...]] = {}

    def observe(self, changes: Iterable[Change]) -> tuple[Network, ...]:
        """All networks after these changes, sorted; ValueError for one that cannot be read."""
        for change in changes:
            found = _decode(change.manifest)
            self._networks.pop(found.metadata.name, None)
            if change.type != "DELETED":
                self._networks[found.metadata.name] = tuple(map(parse_network, found.spec.cidrs))
        return tuple(sorted({network for networks in self._networks.values() for network in networks}))
