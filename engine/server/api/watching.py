"""Follows one resource: list in pages, then watch; what comes out is a sequence of changes without gaps.

    list ──► watch ──end, error──► watch again where it stopped
      ▲                               │
      └────────── 410 Gone ───────────┘   the new list is told as its difference, deletes too

Knows versions and names, never what an object means.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from engine.server.api import Api, ApiError
from engine.server.logs import get_log

PAGE = 2500
"""Objects a page: lists of 10,000 Services and their slices stay within the default burst of requests."""
ANY_VERSION = "0"
"""Whatever the API server has in memory, as informers ask for at first: a fleet that starts costs etcd nothing."""
WATCH_SECONDS = 300
"""A watch is ended by the server after this, up to twice as long (client-go's own figures)."""
_BACKOFF_SECONDS, _BACKOFF_LIMIT_SECONDS = 0.8, 30.0
_SILENCE_SLACK_SECONDS = 30
_SHORT_SECONDS = 1.0

_log = get_log(__name__)


class Change(NamedTuple):
    """One object's change, its manifest as the API sent it; `trigger` is its last-change-trigger-time."""

    type: str
    manifest: bytes
    trigger: str = ""


Deliver = Callable[[str, list[Change], bool], None]
"""deliver(resource, changes, synced): `synced` once the whole first list has been delivered."""


@dataclass(frozen=True)
class Resource:
    """What to follow: `name` is the recording's word for it, selectors as the API takes them.

    An API server may be without an `optional` one, or keep it from us: then there are none of it.
    """

    name: str
    path: str
    label_selector: str = ""
    field_selector: str = ""
    optional: bool = False

    def query(self, **more: str) -> dict[str, str]:
        """The query with both selectors."""
        fixed = {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}
        return {key: value for key, value in (fixed | more).items() if value}


SELECTOR = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless"
"""Whose Services and slices are this proxy's (SVC-01)."""

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


SERVICES = Resource("services", "/api/v1/services", SELECTOR)
ENDPOINTSLICES = Resource("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", SELECTOR)
SERVICECIDRS = Resource("servicecidrs", "/apis/networking.k8s.io/v1/servicecidrs", optional=True)


def own_node(name: str) -> Resource:
    """The Node of this machine, and no other."""
    return Resource("nodes", "/api/v1/nodes", field_selector=f"metadata.name={name}")


class _Meta(msgspec.Struct, gc=False):
    name: str = ""
    namespace: str = ""
    resourceVersion: str = ""
    annotations: dict[str, str] | None = None


class _Object(msgspec.Struct, gc=False):
    metadata: _Meta


class _ListMeta(msgspec.Struct):
    resourceVersion: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


_object = msgspec.json.Decoder(_Object).decode
_list = msgspec.json.Decoder(_List).decode
_event = msgspec.json.Decoder(_Event).decode
_status = msgspec.json.Decoder(_Status).decode

Key = tuple[str, str]


class Gone(Exception):
    """The version asked for is no longer kept (410): list again."""


class Follower:
    """Follows one resource until `stop` is set; `run` is a thread's body."""

    def __init__(self, api: Api, resource: Resource, deliver: Deliver, stop: threading.Event) -> None:
        self._api = api
        self._resource = resource
        self._deliver = deliver
        self._stop = stop
        self._versions: dict[Key, str] = {}
        self._version = ""
        self._listed = False
        self._backoff = _BACKOFF_SECONDS

    def run(self) -> None:
        """Never raises: what goes wrong is logged and tried again, slower each time."""
        while not self._stop.is_set():
            try:
                if not self._version:
                    self._relist()
                self._watch()
            except Gone as error:
                _log.warning("Version is gone, listing again", resource=self._resource.name, err=error)
                self._version = ""
                self._pause()
            except (ApiError, msgspec.DecodeError) as error:
                if isinstance(error, msgspec.DecodeError):
                    self._version = ""  # what was not understood may have been a change
                elif self._resource.optional and error.status in (403, 404):
                    self._deliver(self._resource.name, [], True)
                    self._backoff = _BACKOFF_LIMIT_SECONDS
                _log.warning("List or watch failed", resource=self._resource.name, err=error)
                self._pause()

    def _pause(self) -> None:
        """Wait between half and one and a half of the backoff, which doubles until something works."""
        self._stop.wait(self._backoff * (0.5 + random.random()))
        self._backoff = min(2 * self._backoff, _BACKOFF_LIMIT_SECONDS)

    def _relist(self) -> None:
        """Deliver the list's difference from what is known: at first all of it, page by page.

        What was delivered is known from then on, also when a later page never comes.  Only the first list may be
        of any version: a later one that is older than what was seen would turn time back.
        """
        seen: set[Key] = set()
        query = self._resource.query(limit=str(PAGE), resourceVersion="" if self._listed else ANY_VERSION)
        while True:
            try:
                page = _list(self._api.get(self._resource.path, query))
            except ApiError as error:
                if error.status == 410 and "continue" in query:
                    query = self._resource.query()  # the pages have expired: all at once
                    continue
                raise Gone(str(error)) if error.status == 410 else error from None
            self._deliver(self._resource.name, self._differing(page.items or (), seen), False)
            if not page.metadata.continue_:
                break
            query = self._resource.query(limit=str(PAGE)) | {"continue": page.metadata.continue_}
        missed = sorted(self._versions.keys() - seen)
        for key in missed:
            del self._versions[key]
        self._deliver(self._resource.name, [_deletion(key) for key in missed], True)
        self._version, self._listed = page.metadata.resourceVersion, True
        self._backoff = _BACKOFF_SECONDS

    def _differing(self, items: Iterable[msgspec.Raw], seen: set[Key]) -> list[Change]:
        changes = []
        for item in items:
            manifest = bytes(item)
            meta = _object(manifest).metadata
            key = (meta.namespace, meta.name)
            seen.add(key)
            old = self._versions.get(key)
            if old is None or old != meta.resourceVersion:
                self._versions[key] = meta.resourceVersion
                changes.append(_change("ADDED" if old is None else "MODIFIED", manifest, meta))
        return changes

    def _watch(self) -> None:
        """Deliver events until the server ends the watch; a watch that brought nothing at once is an error."""
        seconds = int(WATCH_SECONDS * (1 + random.random()))
        query = self._resource.query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=self._version,
            timeoutSeconds=str(seconds),
        )
        started, came = time.monotonic(), False
        try:
            for line in self._api.lines(self._resource.path, query, seconds + _SILENCE_SLACK_SECONDS):
                self._on_event(_event(line))
                self._backoff, came = _BACKOFF_SECONDS, True
                if self._stop.is_set():
                    return
        except ApiError as error:
            raise Gone(str(error)) if error.status == 410 else error from None
        if not came and time.monotonic() < started + _SHORT_SECONDS:
            self._pause()

    def _on_event(self, event: _Event) -> None:
        if event.type == "ERROR":
            status = _status(event.object)
            raise (Gone if status.code == 410 else ApiError)(f"watch: {status.code} {status.message}")
        manifest = bytes(event.object)
        meta = _object(manifest).metadata
        self._version = meta.resourceVersion or self._version
        if event.type == "BOOKMARK":
            return
        key = (meta.namespace, meta.name)
        if event.type == "DELETED":
            self._versions.pop(key, None)
        else:
            self._versions[key] = meta.resourceVersion
        self._deliver(self._resource.name, [_change(event.type, manifest, meta)], False)


def _deletion(key: Key) -> Change:
    """A delete that was missed: all that is still known is the name."""
    return Change("DELETED", msgspec.json.encode({"metadata": {"namespace": key[0], "name": key[1]}}))


def _change(kind: str, manifest: bytes, meta: _Meta) -> Change:
    return Change(kind, manifest, (meta.annotations or {}).get(TRIGGER_TIME, ""))
