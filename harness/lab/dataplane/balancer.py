"""The cloud load balancer: routes traffic for its address to the nodes whose proxies are healthy.

Like real ones, it polls each node's /healthz, removes a node after two failures, and adds it after one success.
"""

from __future__ import annotations

import asyncio

from harness.lab.dataplane import network
from harness.lab.dataplane.engines import Engine

PERIOD_SECONDS = 1.0
FAILURES = 2


class Balancer:
    """Maintains the router's route to the load balancer's address; `taking` are the nodes in use, by name."""

    def __init__(self, engines: dict[str, Engine]) -> None:
        self._engines = engines
        self._failures = dict.fromkeys(engines, 0)
        self.taking = set(engines)

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            answers = await asyncio.gather(*(engine.healthy() for engine in self._engines.values()))
            for name, healthy in zip(self._engines, answers, strict=True):
                self._failures[name] = 0 if healthy else self._failures[name] + 1
            taking = {name for name, failures in self._failures.items() if failures < FAILURES}
            if taking != self.taking:
                self.taking = taking
                network.balance([e.node for name, e in self._engines.items() if name in taking])
            await asyncio.sleep(PERIOD_SECONDS)
