"""The cluster's API, and faults that make it fail as real API servers do.

Faults: `down` (nothing listens, connections are closed), `slow` (each request is delayed), `drop` (watches are closed
every `every_seconds`), `gone` (they end with 410 instead, so that every client has to list again).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.apiserver import LiveApi
from harness.lab.control_plane.objects import LabObjects
from harness.lab.topology import API_ADDRESS, API_PORT

PAGE = 3
"""Objects per page of a list: so few that every list of a small lab has several pages."""
FAULTS = ("down", "slow", "drop", "gone")


class ApiServer:
    """Serves the control plane's store on the router; `active` is the set of faults in force."""

    def __init__(self, api: LabObjects) -> None:
        self.live = LiveApi(api.store, host=API_ADDRESS, port=API_PORT, most_per_page=PAGE)
        self.active: set[str] = set()
        self._api = api
        self._storm: asyncio.Task[None] | None = None

    async def set(self, kind: str, seconds: float = 1.0, every_seconds: float = 1.0) -> None:
        """Inject a fault: `seconds` is the delay of `slow`, `every_seconds` the interval of `drop` and `gone`."""
        if kind not in FAULTS:
            raise ValueError(f"{kind!r} is not a fault of the API; choose from {', '.join(FAULTS)}")
        if kind == "down":
            self._api.set_up(False)
            await asyncio.to_thread(self.live.stop)
        elif kind == "slow":
            self.live.delay(seconds)
        elif self._storm is None:
            cut = self.live.expire if kind == "gone" else self.live.disconnect
            self._storm = asyncio.create_task(self._storms(cut, every_seconds))
        self.active.add(kind)

    async def clear(self) -> None:
        """Heal all faults."""
        if self._storm:
            self._storm.cancel()
            self._storm = None
        if "down" in self.active:
            await asyncio.to_thread(self.live.start)
            self._api.set_up(True)
        self.live.delay(0.0)
        self.active.clear()

    @staticmethod
    async def _storms(cut: Callable[[], None], every_seconds: float) -> None:
        while True:
            cut()
            await asyncio.sleep(every_seconds)
