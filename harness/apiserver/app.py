"""The API over HTTP: one handler that determines the target, rejects invalid requests, and dispatches.

A StatusError is answered with its Status; nothing else is decided here.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from harness.apiserver import discovery, errors, openapi, reviews, wire
from harness.apiserver.bodies import body_of
from harness.apiserver.listing import Lister, listing_of
from harness.apiserver.paths import RequestTarget, target_of
from harness.apiserver.scope import scope_of
from harness.apiserver.settings import ServerSettings
from harness.apiserver.store import Store, StoreChange
from harness.apiserver.watching import Bell, Pace, WatchStream, stream, watch_request_of
from harness.kube.selectors import Requirement, Selector

HEALTH = ("/healthz", "/livez", "/readyz")
PUBLIC = (*HEALTH, "/version")
"""Paths available without a token, as in the real server."""

HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"}

Writer = Callable[[web.Request, RequestTarget], Awaitable[web.StreamResponse]]


class ApiHandlers:
    """The handlers for one store. `write` handles requests that change something.

    `delay_seconds` delays every response except those of the control endpoint.
    """

    def __init__(self, store: Store, write: Writer, settings: ServerSettings) -> None:
        self.store, self._write, self._settings = store, write, settings
        documents = discovery.documents(settings.writable, settings.version) | openapi.documents(settings.version)
        self._documents = {path: msgspec.json.encode(document) for path, document in documents.items()}
        self._openapi_protobuf = openapi.version2_protobuf(settings.version)
        self._lister, self._closing = Lister(settings.most_per_page), False
        self._bells: dict[str, Bell] = {}
        self._unsubscribe: Callable[[], None] = lambda: None
        self._open: set[asyncio.Transport] = set()
        self.delay_seconds = 0.0

    def application(self) -> web.Application:
        """The aiohttp application; further routes must be added before it runs."""
        app = web.Application(middlewares=[self._guard], client_max_size=4 << 20)
        app.on_startup.append(self._start)
        app.on_shutdown.append(self._stop)
        return app

    def add_routes(self, app: web.Application) -> None:
        """Add the API's routes, which match all remaining paths."""
        app.router.add_route("*", "/{path:.*}", self._handle)

    @property
    def watchers(self) -> int:
        """The number of open watches."""
        return len(self._open)

    def disconnect(self) -> None:
        """Abort every watch mid-stream, as a crashing server does."""
        for transport in tuple(self._open):
            transport.abort()

    async def _start(self, _app: web.Application) -> None:
        loop = asyncio.get_running_loop()
        self._bells = {name: Bell(loop) for name in self.store.collections}
        self._unsubscribe = self.store.subscribe(self._ring)

    async def _stop(self, _app: web.Application) -> None:
        """End every watch cleanly: clients see the end of the stream."""
        self._unsubscribe()
        self._closing = True
        self.ring_all()

    def _ring(self, change: StoreChange) -> None:
        self._bells[change.resource].ring()

    def ring_all(self) -> None:
        """Wake every watch, so that it checks its collection again."""
        for bell in self._bells.values():
            bell.ring()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            if not self._known(request):
                raise errors.unauthorized()
            if self.delay_seconds and not request.path.startswith("/control/"):
                await asyncio.sleep(self.delay_seconds)
            return await handler(request)
        except errors.StatusError as error:
            headers = {"Retry-After": "1"} if error.code in (429, 504) else None
            return web.Response(body=error.body(), status=error.code, content_type="application/json", headers=headers)

    def _known(self, request: web.Request) -> bool:
        if self._settings.token is None or request.path in PUBLIC:
            return True
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._settings.token}".encode())

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.split("/", 2)[1] in ("healthz", "livez", "readyz"):
            return web.Response(text="ok")
        document = self._documents.get(request.path.rstrip("/") or "/")
        if document is not None:
            return self._document(request, document)
        if request.method == "POST" and request.path in reviews.KIND_OF:
            review = body_of(request, await request.read())
            return _json(msgspec.json.encode(reviews.answer(request.path, review, self._settings.writable)), 201)
        target = target_of(request.path)
        if target is None:
            return web.Response(text="404 page not found\n", status=404)
        if request.method in ("GET", "HEAD"):
            return await self._read(request, target)
        return await self._write(request, target)

    def _document(self, request: web.Request, document: bytes) -> web.Response:
        accept = request.headers.get("Accept", "")
        if request.path == "/openapi/v2" and openapi.PROTOBUF in accept:
            headers = HEADERS | {"Content-Type": openapi.PROTOBUF_ANSWERED}
            return web.Response(body=self._openapi_protobuf, headers=headers)
        wire.form_of(accept, None)  # 406 where JSON is not accepted
        return _json(document)

    async def _read(self, request: web.Request, target: RequestTarget) -> web.StreamResponse:
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

    def _list(self, request: web.Request, target: RequestTarget, form: wire.Form) -> web.Response:
        scope = scope_of(target.kind, target.namespace, request.query)
        listing = listing_of(target.kind, request.query)
        return _json(self._lister.body(self.store.collection(target.kind), scope, listing, form))

    async def _watch(self, request: web.Request, target: RequestTarget, form: wire.Form) -> web.StreamResponse:
        scope = scope_of(target.kind, target.namespace, request.query)
        if target.name:
            scope = scope._replace(fields=Selector((Requirement("metadata.name", "in", (target.name,)),)))
        asked = watch_request_of(target.kind, request.query)
        watcher = WatchStream(self.store.collection(target.kind), scope, asked, form)
        response = web.StreamResponse(headers=HEADERS)
        response.enable_chunked_encoding()
        await response.prepare(request)
        transport = request.transport
        assert transport, "an answer that was prepared has a connection"
        self._open.add(transport)
        try:
            bell, closing = self._bells[target.kind.qualified], lambda: self._closing
            await stream(watcher, bell, response.write, Pace(asked.timeout, self._settings.bookmark_seconds, closing))
            await response.write_eof()
        except ConnectionError:
            pass  # the client is gone
        finally:
            self._open.discard(transport)
        return response


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, headers=HEADERS)
