"""Names of chains and service ports, as users know them from `iptables -t nat -L` (IPT-01, IPT-02)."""

from __future__ import annotations

from hashlib import sha256

from engine.model import Name

SERVICES, NODE_PORTS, EXTERNAL_SERVICES = "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES"
POSTROUTING, MARK_MASQ, FORWARD = "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-FORWARD"
PROXY_FIREWALL, LOCALNET_FIREWALL, CANARY = "KUBE-PROXY-FIREWALL", "KUBE-FIREWALL", "KUBE-PROXY-CANARY"
OF_SERVICES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-")
"""Prefixes of the names of chains that belong to one service port or endpoint."""

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


def chain_hash(text: str) -> str:
    """The first 16 characters of base32(sha256(text)): ten bytes, two characters for each ten bits."""
    bits = int.from_bytes(sha256(text.encode()).digest()[:10], "big")
    pairs = _PAIRS
    return (
        f"{pairs[bits >> 70]}{pairs[bits >> 60 & 1023]}{pairs[bits >> 50 & 1023]}{pairs[bits >> 40 & 1023]}"
        f"{pairs[bits >> 30 & 1023]}{pairs[bits >> 20 & 1023]}{pairs[bits >> 10 & 1023]}{pairs[bits & 1023]}"
    )


def port_name(service: Name, port: str) -> str:
    """`namespace/name:port`, without the colon if the port has no name (NOEP-06)."""
    return f"{service.namespace}/{service.name}:{port}" if port else f"{service.namespace}/{service.name}"
