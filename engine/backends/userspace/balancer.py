"""Selects the endpoint of a new connection: round robin, or the client's last endpoint (AFF)."""

from __future__ import annotations

from engine.backends.userspace.program import EndpointSet

CLIENTS_LIMIT = 65_536
"""Maximum of clients stored per endpoint set; the least recently seen one is evicted."""


class Balancer:
    """Balances one endpoint set; `now` is in seconds of any monotonic clock."""

    def __init__(self, given: EndpointSet) -> None:
        self.given = given
        self._next = 0
        self._clients: dict[str, tuple[str, float]] = {}

    def update(self, given: EndpointSet) -> None:
        """Change the endpoints: the rotation continues, and clients of removed endpoints are forgotten."""
        self.given = given
        kept = set(given.targets) if given.affinity_seconds else set()
        self._clients = {client: seen for client, seen in self._clients.items() if seen[0] in kept}

    def pick(self, client: str, now: float) -> str | None:
        """The target for a new connection from this client address, None if there is none."""
        targets, seconds = self.given.targets, self.given.affinity_seconds
        if not targets:
            return None
        if not seconds:
            return self._turn()
        # The least recently seen client is first, as each use moves a client to the end.
        while self._clients:
            oldest = next(iter(self._clients))
            if self._clients[oldest][1] + seconds > now and len(self._clients) < CLIENTS_LIMIT:
                break
            del self._clients[oldest]
        target = self._clients.pop(client, (None, 0.0))[0] or self._turn()
        self._clients[client] = (target, now)
        return target

    def forget(self, client: str) -> None:
        """The client's endpoint did not answer: use the next one."""
        self._clients.pop(client, None)

    def _turn(self) -> str:
        self._next %= len(self.given.targets)
        target = self.given.targets[self._next]
        self._next += 1
        return target
