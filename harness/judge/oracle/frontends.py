"""One port of a Service as each kind of client meets it: outcomes and masquerade, mode by mode.

The columns of a `Destination` are a pod, the node and an external client.  Where there is no way to tell
pods nobody is in the first column: they count as external clients (ETP-05).
"""

from __future__ import annotations

from harness.behaviour import Destination, Outcome

LIMIT, LIMIT_WITH_AFFINITY = 3071, 1535
"""Endpoints that one nftables port can tell apart."""

_ALWAYS = (True, True, True)
"""What a connection of the proxy's own looks like to an endpoint: from the node (userspace)."""


class Port:
    """Endpoint sets and policies of one port, the mode and the settings that decide about it."""

    def __init__(self, mode: str, tells_pods: bool, masquerade_all: bool, everywhere, here, some: bool) -> None:
        self._mode, self._tells_pods, self._masquerade_all = mode, tells_pods, masquerade_all
        self._everywhere, self._here, self._some = everywhere, here, some
        self.internal_local = self.external_local = False
        self.uses_cluster = True
        self.affinity_seconds = 0
        self.silent = False
        """Whether some may be let in and others told nothing: a datagram at an open port (userspace)."""

    def internal(self) -> Destination:
        """The cluster IP (ITP-01, CIP-04)."""
        others = self._masquerade_all or self._tells_pods
        masquerade = (self._masquerade_all, others, others) if self._mode != "userspace" else _ALWAYS
        return self._destination((self._set(self.internal_local),) * 3, masquerade)

    def external(self, allowed=None) -> Destination:
        """Node ports, external and load balancer addresses (ETP-01 to ETP-07)."""
        if not self.external_local:
            return self._destination((self._set(False),) * 3, _ALWAYS, allowed)
        outside = self._set(True)
        if self._mode == "ipvs":
            return self._destination((outside,) * 3, (False, False, False), allowed)
        inside = self._set(False) if self._everywhere else outside
        if self.silent and inside[0] == "dnat" and outside[0] == "reject":
            outside = ("drop",)
        masquerade = (False, True, False) if self._mode != "userspace" else _ALWAYS
        # Where pods are told by a rule that is not there, they are in the last column altogether (ETP-05).
        pod = outside if self._mode == "iptables" and not self._tells_pods else inside
        return self._destination((pod, inside, outside), masquerade, allowed)

    def external_address(self, allowed=None) -> Destination:
        """An external or load balancer address: in mode iptables nothing is refused on its way out (NOEP-03)."""
        found = self.external(allowed)
        if self._mode != "iptables":
            return found
        if not self._some:  # no chain for source ranges either (LB-04)
            return found._replace(node=("none",), allowed=None)
        return found

    def _set(self, local: bool) -> Outcome:
        if not local or (self._mode == "ipvs" and not self._here):
            chosen = self._everywhere if self.uses_cluster else []
        else:
            chosen = self._here
        if chosen:
            limit = LIMIT_WITH_AFFINITY if self.affinity_seconds else LIMIT
            return ("dnat", frozenset(sorted(chosen)[:limit] if self._mode == "nftables" else chosen))
        return ("drop",) if self._some and self._mode not in ("ipvs", "userspace") else ("reject",)

    def _destination(self, outcomes, masquerade, allowed=None) -> Destination:
        masquerade = tuple(m and o[0] == "dnat" for m, o in zip(masquerade, outcomes, strict=True))
        translated = any(outcome[0] == "dnat" for outcome in outcomes)
        return Destination(*outcomes, allowed, masquerade, self.affinity_seconds if translated else 0)
