"""The API over HTTP: one handler that names the target, refuses what is refused, and dispatches.

Whatever is raised as ApiError is answered with its Status; nothing else is decided here.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from harness.serve import discovery, errors, openapi, wire
from harness.serve.listing import Lister, listing_of
from harness.serve.paths import Target, target_of
from harness.serve.scope import scope_of
from harness.serve.selectors import Requirement, Selector
from harness.serve.store import Change, Store
from harness.serve.watching import BOOKMARK_SECONDS, Bell, Pace, Watcher, stream, watch_request_of

HEALTH = ("/healthz", "/livez", "/readyz")
PUBLIC = (*HEALTH, "/version")
"""What a client without a token may ask, as with the real server."""

HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"}

Writer = Callable[[web.Request, Target], Awaitable[web.StreamResponse]]


class Api:
    """The handlers around one store. `write` takes requests that change something.

    `delay_seconds` is how long every request but those of the control endpoint waits for its answer.
    """

    def __init__(
        self, store: Store, write: Writer, token: str | None, writable: bool, bookmark_seconds: float = BOOKMARK_SECONDS
    ) -> None:
        self.store, self._write, self._token, self._bookmark_seconds = store, write, token, bookmark_seconds
        documents = discovery.documents(writable) | openapi.documents()
        self._documents = {path: msgspec.json.encode(document) for path, document in documents.items()}
        self._lister, self._bells = Lister(), {}
        self._unsubscribe, self._closing = None, False
        self._open: set[asyncio.Transport] = set()
        self.delay_seconds = 0.0

    def application(self) -> web.Application:
        """The aiohttp application; add routes of your own before it runs."""
        app = web.Application(middlewares=[self._guard], client_max_size=4 << 20)
        app.on_startup.append(self._start)
        app.on_shutdown.append(self._stop)
        return app

    def add_routes(self, app: web.Application) -> None:
        """The API's own, which take every path that is left."""
        app.router.add_route("*", "/{path:.*}", self._handle)

    @property
    def watchers(self) -> int:
        """How many watches are open."""
        return len(self._open)

    def disconnect(self) -> None:
        """Break every watch off, wherever it is in its stream, as a server does that dies."""
        for transport in tuple(self._open):
            transport.abort()

    async def _start(self, _app: web.Application) -> None:
        loop = asyncio.get_running_loop()
        self._bells = {name: Bell(loop) for name in self.store.collections}
        self._unsubscribe = self.store.subscribe(self._ring)

    async def _stop(self, _app: web.Application) -> None:
        """Ends every watch cleanly: their clients see the end of the stream."""
        self._unsubscribe()
        self._closing = True
        self.ring_all()

    def _ring(self, change: Change) -> None:
        self._bells[change.resource].ring()

    def ring_all(self) -> None:
        """Let every watch look at its collection again."""
        for bell in self._bells.values():
            bell.ring()

    @web.middleware
    async def _guard(self, request: web.Request, handler) -> web.StreamResponse:
        try:
            if not self._known(request):
                raise errors.unauthorized()
            if self.delay_seconds and not request.path.startswith("/control/"):
                await asyncio.sleep(self.delay_seconds)
            return await handler(request)
        except errors.ApiError as error:
            headers = {"Retry-After": "1"} if error.code in (429, 504) else None
            return web.Response(body=error.body(), status=error.code, content_type="application/json", headers=headers)

    def _known(self, request: web.Request) -> bool:
        if self._token is None or request.path in PUBLIC:
            return True
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.split("/", 2)[1] in ("healthz", "livez", "readyz"):
            return web.Response(text="ok")
        document = self._documents.get(request.path.rstrip("/") or "/")
        if document is not None:
            return _json(document)
        target = target_of(request.path)
        if target is None:
            return web.Response(text="404 page not found\n", status=404)
        if request.method in ("GET", "HEAD"):
            return await self._read(request, target)
        return await self._write(request, target)

    async def _read(self, request: web.Request, target: Target) -> web.StreamResponse:
        if target.subresource and not (target.subresource == "status" and target.kind.status):
            raise errors.no_such_resource()
        form = wire.form_of(request.headers.get("Accept", ""), request.query.get("includeObject"))
        watching = target.watch or request.query.get("watch") in ("1", "true", "True")
        if target.name and not watching:
            found = self.store.collection(target.kind).get(target.namespace, target.name)
            if found is None:
                raise errors.not_found(target.kind, target.name)
            return _json(wire.one(found, form))
        return await self._watch(request, target, form) if watching else self._list(request, target, form)

    def _list(self, request: web.Request, target: Target, form: wire.Form) -> web.Response:
        scope = scope_of(target.kind, target.namespace, request.query)
        listing = listing_of(target.kind, request.query)
        return _json(self._lister.body(self.store.collection(target.kind), scope, listing, form))

    async def _watch(self, request: web.Request, target: Target, form: wire.Form) -> web.StreamResponse:
        scope = scope_of(target.kind, target.namespace, request.query)
        if target.name:
            scope = scope._replace(fields=Selector((Requirement("metadata.name", "in", (target.name,)),)))
        asked = watch_request_of(target.kind, request.query)
        watcher = Watcher(self.store.collection(target.kind), scope, asked, form)
        response = web.StreamResponse(headers=HEADERS)
        response.enable_chunked_encoding()
        await response.prepare(request)
        transport = request.transport
        self._open.add(transport)
        try:
            bell, closing = self._bells[target.kind.qualified], lambda: self._closing
            await stream(watcher, bell, response.write, Pace(asked.timeout, self._bookmark_seconds, closing))
            await response.write_eof()
        except ConnectionError:
            pass  # the client has gone: nobody to tell
        finally:
            self._open.discard(transport)
        return response


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, headers=HEADERS)
