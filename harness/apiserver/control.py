"""The control endpoint: /control/status, and POST /control/ACTION.

    curl URL/control/status
    curl -X POST 'URL/control/step?count=5'
    curl -X POST 'URL/control/seek?to=90s'      # or to=SEQ
    curl -X POST 'URL/control/speed?factor=10'  # or max
    curl -X POST URL/control/disconnect         # every watch is aborted
    curl -X POST URL/control/expire             # every watch ends with 410 Gone
    curl -X POST 'URL/control/delay?seconds=2'  # every response is delayed; 0 ends the delay

Every response is the resulting status; errors are Status objects, as from the API.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from harness.apiserver import errors
from harness.apiserver.app import ApiHandlers
from harness.apiserver.pace import Player, position_of
from harness.log import RecordingError
from harness.log.events import JsonObject
from harness.log.positions import position, speed

ACTIONS = ("pause", "resume", "step", "seek", "speed", "disconnect", "expire", "delay")


class Control:
    """Handlers for one player."""

    def __init__(self, api: ApiHandlers, player: Player) -> None:
        self._api, self._player = api, player

    def add_routes(self, app: web.Application) -> None:
        """Add the routes; to be called before the API's own, which match all remaining paths."""
        app.router.add_get("/control/status", self._status)
        app.router.add_post("/control/{action}", self._act)

    async def _status(self, _request: web.Request) -> web.Response:
        return web.json_response(self.status())

    def status(self) -> JsonObject:
        """The player's position, and the contents of the store."""
        collections = self._api.store.collections.items()
        resources = {name: {"objects": len(c), "resourceVersion": str(c.revision)} for name, c in collections}
        return position_of(self._player) | {"watchers": self._api.watchers, "resources": resources}

    async def _act(self, request: web.Request) -> web.Response:
        action = request.match_info["action"]
        if action not in ACTIONS:
            raise errors.StatusError(404, "NotFound", f"no action {action!r}; one of {', '.join(ACTIONS)} is needed")
        try:
            self._do(action, request.query)
        except (LookupError, ValueError) as error:
            code = 422 if isinstance(error, RecordingError) else 400
            raise errors.StatusError(code, "BadRequest", str(error)) from None
        self._api.ring_all()
        return web.json_response(self.status())

    def _do(self, action: str, query: Mapping[str, str]) -> None:
        player = self._player
        match action:
            case "pause":
                player.pause()
            case "resume":
                player.resume()
            case "step":
                player.step(_count(query.get("count", "1")))
            case "seek":
                player.seek(position(query.get("to", "")))
            case "speed":
                player.set_speed(speed(query.get("factor", "")))
            case "disconnect":
                self._api.disconnect()
            case "expire":
                self._api.store.expire()
            case "delay":
                self._api.delay_seconds = _seconds(query.get("seconds", ""))


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"count is {text!r}; a number from 1 is needed")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise ValueError(f"seconds is {text!r}; a number from 0 to 3600 is needed")
    return seconds
