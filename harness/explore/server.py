"""The page's server: on loopback, read-only, from memory.

GET /                     the page; its scripts and its style sheet
GET /api/overview         source, header, density of events, and data of a chaos run
GET /api/moment?at=N      after the first N events: the event, its changes, the numbers of objects
GET /api/events?at=N      events around N
GET /api/services?at=N&filter=TEXT&first=N&count=N
GET /api/service?at=N&service=NAMESPACE/NAME
GET /api/rules?at=N&service=NAMESPACE/NAME&mode=M[&node=NAME]
GET /api/trace?at=N&from=WHO&to=WHERE&mode=M[&node=NAME]
GET /api/convergence?mode=M[&node=NAME]  convergence of each change; a recording is replayed on request
GET /api/grown?events=N   waits for more than N events of a source that is followed
GET /api/index?position=P the count for a seq or a time (90s)

GET /save/NAME            what is shown, as a file, with the parameters of its view: state.json, state.yaml (also of one
                          service), services.csv, endpoints.csv, before.txt, after.txt, rules.diff, trace.txt,
                          trace.json, events.csv, convergence.csv, requests.csv
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.resources import files
from inspect import isawaitable
from typing import Any

import msgspec
from aiohttp import web

from engine.manifest import ManifestError
from harness.explore import exports, views
from harness.explore.convergence import NS, ChangePoint, Convergence, measured, of_run
from harness.explore.growth import Growth
from harness.explore.history import History
from harness.explore.rules import MODES, changed_lines, concerned, rules
from harness.explore.run import ChaosRun
from harness.log.errors import RecordingError
from harness.log.events import JsonObject
from harness.log.positions import Position, position
from harness.log.state import State
from harness.replay.explain import Explanation, Question, as_text, explain_state

SCRIPTS = ("app.js", "common.js", "picture.js", "timeline.js", "vendor.js")
PAGE = {"": ("index.html", "text/html"), "style.css": ("style.css", "text/css")} | {
    name: (name, "text/javascript") for name in SCRIPTS
}
RULES_KEPT = 64
TAKE_SECONDS, WAIT_SECONDS = 0.2, 20.0
LARGEST_PAGE = 500
"""Rows of one answer."""

POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
"""The page loads nothing from other servers, whatever a recording's texts contain."""

SELF_CONTAINED = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""The policy of a self-contained page."""

_LOCAL = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")

Answer = Callable[[web.Request], Any]
Export = Callable[[web.Request], Any]
"""The content of a download: text, or an object to be encoded as JSON."""


class Explorer:
    """Serves one history; `run` is a chaos run's data, None for a recording only.

    `known` is when rules followed each change; without it, that is measured when it is asked for.  `growth` adds to
    the history while this serves.
    """

    def __init__(
        self,
        history: History,
        run: ChaosRun | None = None,
        known: Convergence | None = None,
        growth: Growth | None = None,
    ) -> None:
        self._growth, self._ended, self._news = growth, "", asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._known = of_run(run) if run else known
        self._measuring: dict[tuple[str, str | None, int], asyncio.Task[Convergence]] = {}
        self._history, self._run, self._facts = history, run, views.ManifestFacts(history.events)
        self._cluster = history.header.cluster
        self._rules = lru_cache(RULES_KEPT)(self._rules_of)  # the next event needs one of the two again

    def application(self) -> web.Application:
        """The application to run."""
        app = web.Application(middlewares=[_guarded])
        app.on_startup.append(self._begin)
        app.on_shutdown.append(self._end)
        for path, answer in self._answers().items():
            app.router.add_get(f"/api/{path}", _as_json(answer))
        for name, export in self._exports().items():
            app.router.add_get(f"/save/{name}", _as_download(name, export))
        for path, (file, kind) in PAGE.items():
            app.router.add_get(f"/{path}", _as_file(file, kind))
        return app

    def _answers(self) -> dict[str, Answer]:
        return {
            "overview": self.overview,
            "moment": self.moment,
            "events": self.events,
            "services": self.services,
            "service": self.service,
            "rules": self.rules,
            "trace": self.trace,
            "index": self.index,
            "convergence": self.convergence,
            "grown": self.grown,
        }

    def _exports(self) -> dict[str, Export]:
        return {
            "state.json": lambda request: self._listing(request, None),
            "state.yaml": self._applicable,
            "services.csv": self._all_services,
            "endpoints.csv": self._endpoints,
            "before.txt": lambda request: self._rules_around(request)[0],
            "after.txt": lambda request: self._rules_around(request)[1],
            "rules.diff": lambda request: exports.difference(*self._rules_around(request), self._at(request)),
            "trace.txt": lambda request: as_text(self.trace(request)),
            "trace.json": self.trace,
            "events.csv": lambda _: exports.events(self._history),
            "convergence.csv": self._convergence,
        } | ({"requests.csv": partial(_requests, self._run)} if self._run else {})

    async def _begin(self, _app: web.Application) -> None:
        self._following = asyncio.create_task(self._follow(self._growth)) if self._growth else None

    async def _end(self, _app: web.Application) -> None:
        """Stop all background work and wake all waiting requests."""
        tasks = [*self._measuring.values(), *([self._following] if self._following else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _follow(self, growth: Growth) -> None:
        """Add new events a few times per second, on the loop, so that the history does not change during a request."""
        while not self._ended:
            try:
                taken = growth.take()
                self._ended = str(growth.failure or "")
            except RecordingError as error:
                taken, self._ended = [], str(error)
            self._facts.learn(taken)
            if taken or self._ended:
                self._announce()
            await asyncio.sleep(TAKE_SECONDS)

    async def grown(self, request: web.Request) -> dict[str, Any]:
        """The number of events, once it exceeds the given one or after a timeout."""
        if self._growth and not self._ended and len(self._history) <= _number(request, "events", 0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), WAIT_SECONDS)
        return {"events": len(self._history), "ended": self._ended}

    def overview(self, request: web.Request) -> dict[str, Any]:
        """Data that does not change while the page is open."""
        end = round(self._run.ended * NS) if self._run else 0
        return views.overview(self._history, end) | {
            "modes": MODES, "run": self._run and msgspec.to_builtins(self._run), "measures": self._known is None,
            "follows": self._growth is not None,
        }  # fmt: skip

    def moment(self, request: web.Request) -> dict[str, Any]:
        """The event at `at`, its changes, and the numbers of objects."""
        at = self._at(request)
        moment = self._history.moment(at)
        return {
            "at": at,
            "event": moment and views.change(moment, self._facts),
            "counts": views.counts(self._history.objects(at)),
        }

    def events(self, request: web.Request) -> list[dict[str, Any]]:
        """Events around `at`."""
        around = self._history.around(self._at(request), 30, 30)
        return [views.event_row(count, event) for count, event in around]

    def services(self, request: web.Request) -> dict[str, Any]:
        """Rows of the table of Services."""
        first, count = _number(request, "first", 0), min(LARGEST_PAGE, _number(request, "count", 100))
        objects = self._history.objects(self._at(request))
        return views.services(objects, self._facts, request.query.get("filter", ""), first, count)

    def service(self, request: web.Request) -> dict[str, Any] | None:
        """One Service and its endpoints."""
        return views.service(self._history.objects(self._at(request)), self._facts, *_service(request))

    def rules(self, request: web.Request) -> dict[str, Any]:
        """The Service's rules at `at`, and how the event at `at` changed them."""
        before, after = self._rules_around(request)
        return {"mode": _mode(request), "text": after, "changes": changed_lines(before, after)}

    def _rules_around(self, request: web.Request) -> tuple[str, str]:
        """Before the event at `at` and after it."""
        at, mode, service = self._at(request), _mode(request), _service(request)
        node = request.query.get("node") or None
        return self._rules(max(0, at - 1), service, mode, node), self._rules(at, service, mode, node)

    def _rules_of(self, at: int, service: tuple[str, str], mode: str, node: str | None) -> str:
        return rules(self._cluster, self._history.objects(at), self._facts, service, mode, node)

    def trace(self, request: web.Request) -> Explanation:
        """A packet's path through the rules at `at`."""
        query, objects = request.query, self._history.objects(self._at(request))
        target, node = query.get("to", ""), query.get("node") or None
        namespace, _, name = target.removeprefix("svc:").partition(":")[0].partition("/")
        anywhere = query.get("from", "").startswith("pod:")  # its address is in some Pod or slice
        if target.startswith("svc:") and not anywhere and ("services", namespace, name) in objects:
            objects = {key: objects[key] for key in concerned(objects, self._facts, (namespace, name), node)}
        question = Question(query.get("from", ""), target, _mode(request))
        return explain_state(self._cluster, objects, question, node)

    def index(self, request: web.Request) -> dict[str, int]:
        """The count of events at a seq or time."""
        return {"at": self._history.index_of(position(request.query.get("position", "")))}

    async def convergence(self, request: web.Request) -> dict[str, Any]:
        """The convergence of each change, with the number of events up to it."""
        found = await self._found(request)
        points = [
            msgspec.to_builtins(each) | {"count": self._history.index_of(_position(each))} for each in found.points
        ]
        body: dict[str, Any] = msgspec.to_builtins(found)
        return body | {"points": points}

    async def _found(self, request: web.Request) -> Convergence:
        return self._known or await self._measured(_mode(request), request.query.get("node") or None)

    async def _convergence(self, request: web.Request) -> str:
        return exports.convergence(await self._found(request))

    def _listing(self, request: web.Request, service: tuple[str, str] | None) -> JsonObject:
        """All objects as a Kubernetes List, as `harness inspect --at` prints them, or those of one Service."""
        objects, state = self._history.objects(self._at(request)), State()
        keys = [("services", *service), *self._facts.slices(objects, *service)] if service else list(objects)
        state.objects = {key: objects[key] for key in keys if key in objects}
        return state.listing()

    async def _applicable(self, request: web.Request) -> str:
        """In a thread, since 10,000 Services take seconds as YAML, so that the page stays responsive."""
        service = _service(request) if "service" in request.query else None
        return await asyncio.to_thread(exports.applicable, self._listing(request, service))

    def _all_services(self, request: web.Request) -> str:
        objects = self._history.objects(self._at(request))
        found = views.services(objects, self._facts, request.query.get("filter", ""), 0, len(objects))
        return exports.records(found["rows"], views.SERVICE_COLUMNS)

    def _endpoints(self, request: web.Request) -> str:
        return exports.records((self.service(request) or {"endpoints": []})["endpoints"], views.ENDPOINT_COLUMNS)

    async def _measured(self, mode: str, node: str | None) -> Convergence:
        """One replay for all requests, which continues if a client disconnects."""
        key = mode, node, len(self._history)
        task = self._measuring.get(key)
        if task is None:
            task = self._measuring[key] = asyncio.create_task(measured(self._history, mode, node))
        try:
            return await asyncio.shield(task)
        except ValueError:
            self._measuring.pop(key, None)
            raise

    def _at(self, request: web.Request) -> int:
        return min(len(self._history), _number(request, "at", len(self._history)))


def showing(document: str) -> web.Application:
    """Serves one self-contained page."""

    async def answer(_request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": SELF_CONTAINED}
        return web.Response(text=document, content_type="text/html", headers=headers)

    app = web.Application(middlewares=[_guarded])
    app.router.add_get("/", answer)
    return app


@web.middleware
async def _guarded(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
    """Refuses other host names, so that other web pages cannot read from this server (DNS rebinding)."""
    if not _LOCAL.fullmatch(request.host):
        return web.Response(status=403, text="only as 127.0.0.1 or localhost\n")
    response: web.StreamResponse = await handler(request)
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers.update({"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"})
    return response


def _as_json(answer: Answer) -> Callable[[web.Request], Any]:
    async def handler(request: web.Request) -> web.Response:
        try:
            found = answer(request)
            if isawaitable(found):
                found = await found
        except (ValueError, ManifestError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    return handler


def _requests(run: ChaosRun, _request: web.Request) -> str:
    return exports.requests(run)


def _as_download(name: str, export: Export) -> Callable[[web.Request], Any]:
    async def handler(request: web.Request) -> web.Response:
        try:
            found = export(request)
            if isawaitable(found):
                found = await found
        except (ValueError, ManifestError) as error:
            return web.Response(text=f"{error}\n", status=400)
        body = found.encode() if isinstance(found, str) else msgspec.json.format(msgspec.json.encode(found), indent=2)
        headers = {"Content-Disposition": f"attachment; filename={name}"}
        return web.Response(body=body, content_type="text/plain", charset="utf-8", headers=headers)

    return handler


def _as_file(name: str, kind: str) -> Callable[[web.Request], Any]:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=(files(__package__) / "page" / name).read_bytes(), content_type=kind, charset="utf-8")

    return handler


def _position(point: ChangePoint) -> Position:
    return ("t", round(point.at_seconds * NS)) if point.seq is None else ("seq", point.seq)


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{name}: {text!r} is not a number")
    return int(text)


def _mode(request: web.Request) -> str:
    mode = request.query.get("mode", MODES[0])
    if mode not in MODES:
        raise ValueError(f"mode: {mode!r} is not one of {', '.join(MODES)}")
    return mode


def _service(request: web.Request) -> tuple[str, str]:
    namespace, slash, name = request.query.get("service", "").partition("/")
    if not slash:
        raise ValueError("service: NAMESPACE/NAME is needed")
    return namespace, name
