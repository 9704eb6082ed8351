"""One port of a Service from the view of each kind of client: outcomes and masquerade, by mode.

The columns of a `Destination` are a pod, the node and an external client.  If pods cannot be detected, the first
column is unused: they count as external clients (ETP-05).
"""

from __future__ import annotations

from harness.judge.behaviour import Destination, Masquerade, Outcome, Target
from harness.judge.oracle.modes import Traits

Ranges = frozenset[tuple[bytes, bytes]]
"""(first, last) addresses of allowed sources."""

_ALWAYS = (True, True, True)
"""Connections of a userspace proxy always reach endpoints from the node's address."""


_Columns = tuple[Outcome, Outcome, Outcome]


class OraclePort:
    """Endpoint sets and policies of one port, with the traits of the mode and the settings that apply."""

    def __init__(
        self,
        traits: Traits,
        detects_pods: bool,
        masquerade_all: bool,
        everywhere: list[Target],
        here: list[Target],
        some: bool,
    ) -> None:
        self._traits, self._detects_pods, self._masquerade_all = traits, detects_pods, masquerade_all
        self._everywhere, self._here, self.some = everywhere, here, some
        self.internal_local = self.external_local = False
        self.uses_cluster = True
        self.affinity_seconds = 0
        self.silent = False
        """Whether refused clients get no answer: a datagram at a port open to others (userspace)."""

    def internal(self) -> Destination:
        """The cluster IP (ITP-01, CIP-04)."""
        others = self._masquerade_all or self._detects_pods
        masquerade = (self._masquerade_all, others, others) if not self._traits.by_sockets else _ALWAYS
        return self._destination(self._everyone(self._set(self.internal_local)), masquerade)

    def external(self, allowed: Ranges | None = None) -> Destination:
        """Node ports, external and load balancer addresses (ETP-01 to ETP-07)."""
        if not self.external_local:
            return self._destination(self._everyone(self._set(False)), _ALWAYS, allowed)
        outside = self._set(True)
        if self._traits.alike_for_all:
            return self._destination(self._everyone(outside), (False, False, False), allowed)
        inside = self._set(False) if self._everywhere else outside
        if self.silent and inside[0] == "dnat" and outside[0] == "reject":
            outside = ("drop",)
        masquerade = (False, True, False) if not self._traits.by_sockets else _ALWAYS
        # Without a rule that detects pods, they are treated as external clients (ETP-05).
        pod = outside if self._traits.undetected_pods_are_external and not self._detects_pods else inside
        return self._destination((pod, inside, outside), masquerade, allowed)

    def external_address(self, allowed: Ranges | None = None) -> Destination:
        """An external or load balancer address: some modes reject nothing on output (NOEP-03)."""
        found = self.external(allowed)
        if self._traits.rejects_on_output:
            return found
        if not self.some:  # no chain for source ranges either (LB-04)
            return found._replace(node=("none",), allowed=None)
        return found

    def _set(self, local: bool) -> Outcome:
        if not local or (self._traits.alike_for_all and not self._here):
            chosen = self._everywhere if self.uses_cluster else []
        else:
            chosen = self._here
        if chosen:
            return ("dnat", frozenset(chosen))
        return ("drop",) if self.some and self._traits.drops_without_local else ("reject",)

    def _destination(self, outcomes: _Columns, masquerade: Masquerade, allowed: Ranges | None = None) -> Destination:
        pod, node, external = (m and o[0] == "dnat" for m, o in zip(masquerade, outcomes, strict=True))
        translated = any(outcome[0] == "dnat" for outcome in outcomes)
        seconds = self.affinity_seconds if translated else 0
        return Destination(*outcomes, allowed, (pod, node, external), seconds)

    @staticmethod
    def _everyone(outcome: Outcome) -> _Columns:
        return outcome, outcome, outcome
