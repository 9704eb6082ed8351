"""Netlink: the only package that encodes and decodes its headers, numbers requests and waits for replies.

wire ─► connection (requests, dumps, pipelines, transactions) ─► errors, classified by kind
     └► subscription (notifications of multicast groups)

The caller provides the socket, which determines the network namespace.
"""

from engine.kernel.netlink.connection import Connection, Dump
from engine.kernel.netlink.errors import ErrorKind, NetlinkError, Refusal
from engine.kernel.netlink.generic import family_number
from engine.kernel.netlink.subscription import NEW_GENERATION, NFTABLES_GROUP, Notices, Subscription
from engine.kernel.netlink.waiting import end_waits, ending, widen
from engine.kernel.netlink.wire import (
    ACK,
    APPEND,
    CREATE,
    DUMP,
    ECHO,
    EXCLUSIVE,
    GENERIC,
    NETFILTER,
    ROUTE,
    Message,
    attribute,
    attributes,
    flags_of,
    generic,
    message,
    nested,
    nfnetlink,
    text,
)

__all__ = [
    "ACK",
    "APPEND",
    "CREATE",
    "DUMP",
    "ECHO",
    "EXCLUSIVE",
    "GENERIC",
    "NETFILTER",
    "NEW_GENERATION",
    "NFTABLES_GROUP",
    "ROUTE",
    "Connection",
    "Dump",
    "ErrorKind",
    "Message",
    "NetlinkError",
    "Notices",
    "Refusal",
    "Subscription",
    "attribute",
    "attributes",
    "end_waits",
    "ending",
    "family_number",
    "flags_of",
    "generic",
    "message",
    "nested",
    "nfnetlink",
    "text",
    "widen",
]
