"""Who gets the next connection: round robin, or the endpoint that the client had last (AFF)."""

from __future__ import annotations

from engine.backends.userspace.program import EndpointSet

CLIENTS_LIMIT = 65_536
"""Clients remembered for one endpoint set; the one seen longest ago makes room."""


class Balancer:
    """Turns of one endpoint set; `now` is in seconds of any steady clock."""

    def __init__(self, given: EndpointSet) -> None:
        self.given = given
        self._next = 0
        self._clients: dict[str, tuple[str, float]] = {}

    def update(self, given: EndpointSet) -> None:
        """Other endpoints from now on: the turn goes on, clients of those that left are forgotten."""
        self.given = given
        kept = set(given.targets) if given.affinity_seconds else set()
        self._clients = {client: seen for client, seen in self._clients.items() if seen[0] in kept}

    def pick(self, client: str, now: float) -> str | None:
        """The target for a new connection of this client address, None when there is none."""
        targets, seconds = self.given.targets, self.given.affinity_seconds
        if not targets:
            return None
        if not seconds:
            return self._turn()
        # Seen longest ago stands first, as each use puts a client at the end.
        while self._clients:
            oldest = next(iter(self._clients))
            if self._clients[oldest][1] + seconds > now and len(self._clients) < CLIENTS_LIMIT:
                break
            del self._clients[oldest]
        target = self._clients.pop(client, (None, 0.0))[0] or self._turn()
        self._clients[client] = (target, now)
        return target

    def forget(self, client: str) -> None:
        """Its endpoint did not answer: the next one gets it."""
        self._clients.pop(client, None)

    def _turn(self) -> str:
        self._next %= len(self.given.targets)
        target = self.given.targets[self._next]
        self._next += 1
        return target
