"""The networks of Service addresses, from ServiceCIDR objects (CIP-02, NFT-09). No I/O."""

from __future__ import annotations

import msgspec

from engine.addresses import parse_network
from engine.manifest import decode_name
from engine.model import Network
from engine.server.api.watching import ObjectChange


class _Meta(msgspec.Struct):
    name: str = ""


class _Spec(msgspec.Struct):
    cidrs: tuple[str, ...] = ()


class _ServiceCIDR(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _Spec = msgspec.field(default_factory=_Spec)


_decode = msgspec.json.Decoder(_ServiceCIDR).decode


class ServiceNetworks:
    """A fold over changes of ServiceCIDRs."""

    def __init__(self) -> None:
        self._networks: dict[str, tuple[Network, ...]] = {}

    def observe(self, change: ObjectChange) -> None:
        """Apply one change; ValueError for an invalid object, which is ignored."""
        if change.type == "DELETED":  # other fields may be missing
            self._networks.pop(decode_name(change.manifest).name, None)
            return
        try:
            found = _decode(change.manifest)
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from None
        self._networks[found.metadata.name] = tuple(map(parse_network, found.spec.cidrs))

    @property
    def all(self) -> tuple[Network, ...]:
        """The current networks, sorted."""
        return tuple(sorted({network for networks in self._networks.values() for network in networks}))
