"""Use of the 32 bits of a packet's priority: picks of endpoint sets, and tickets of endpoints.

    count 12 | set 20                  a pick: number of endpoints, and the set
    11 | count 17 | set 13             the same for a set with more endpoints than COUNT_LIMIT
    ffe or fff | 000 | port 16 | 0     a pick of a port with session affinity: its cluster-wide or its local set
    number 15 | port 16 | 0            a ticket: an endpoint of a port with session affinity
    count 15 | port 16 | local 1       a set of that port: number of tickets, and the place of their slots

Values of different kinds that occur in the same map or comparison are disjoint.
"""

from __future__ import annotations

ID_BITS = 20
COUNT_LIMIT = 0xBFF
"""Maximum number of endpoints in a pick of the first kind."""

LARGE = 0b11 << 30
LARGE_ID_BITS = 13
LARGE_IDS = 1 << LARGE_ID_BITS
"""Sets with smaller ids are large ones."""
_LOCAL_IDS, _LOCAL_LARGE_IDS = 1 << ID_BITS - 1, LARGE_IDS >> 1
ID_RANGES = {
    (True, False): (1, _LOCAL_LARGE_IDS),
    (True, True): (_LOCAL_LARGE_IDS, LARGE_IDS),
    (False, False): (LARGE_IDS, _LOCAL_IDS),
    (False, True): (_LOCAL_IDS, 1 << ID_BITS),
}
"""By (large, local), the first id and the one after the last: with ranges of their own for the sets of a node's own
endpoints, a cluster-wide set has the same id on every node."""

STICKY_CLUSTER, STICKY_LOCAL = 0xFFE, 0xFFF
STICKY_ID_BITS = 17
STICKY_LIMIT = (STICKY_CLUSTER << ID_BITS - STICKY_ID_BITS) - 1
"""Maximum number of endpoints of a port with session affinity."""

LARGE_LIMIT = ((STICKY_CLUSTER << ID_BITS) - LARGE >> LARGE_ID_BITS) - 1
"""Maximum number of endpoints in any pick."""

BLOCK_BITS = 4
"""Ports with session affinity are grouped in blocks of 16 with the same timeout."""


def pick(count: int, number: int) -> int:
    """The pick of a set; the set's number determines the kind."""
    return LARGE | count << LARGE_ID_BITS | number if number < LARGE_IDS else count << ID_BITS | number


def kind_of(number: int) -> tuple[bool, bool]:
    """Whether the set of an id is large, and whether it is local."""
    large = number < LARGE_IDS
    return large, number >= (_LOCAL_LARGE_IDS if large else _LOCAL_IDS)


def priority(value: int) -> str:
    """The value in nft's format of a priority: `major:minor`, hexadecimal."""
    return f"{value >> 16:x}:{value & 0xFFFF:x}"
