"""Follows one resource: list in pages, then watch; yields a sequence of changes without gaps.

    list ──► watch ──end, error──► watch again where it stopped
      ▲                               │
      └────────── 410 Gone ───────────┘   the new list is delivered as its difference, including deletes

Uses only versions and names of objects.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from engine.config import NEWEST
from engine.manifest import HEADLESS, PROXY_NAME, hiding_labels
from engine.server.api.client import ApiClient, ApiError
from engine.server.runtime.logs import get_log

PAGE = 2500
"""Objects per page: lists of 10,000 Services and their slices stay within the default burst of requests."""
ANY_VERSION = "0"
"""List from the API server's watch cache, as informers do first, so that many starting nodes put no load on etcd."""
WATCH_SECONDS = 300
"""The server ends a watch after this time, up to twice as long (client-go's values)."""
_BACKOFF_SECONDS, _BACKOFF_LIMIT_SECONDS = 0.8, 30.0
_SILENCE_SLACK_SECONDS = 30
_SHORT_SECONDS = 1.0

_log = get_log(__name__)


class ObjectChange(msgspec.Struct, frozen=True, gc=False):
    """One object's change, its manifest as the API sent it; `trigger` is its last-change-trigger-time."""

    type: str
    manifest: bytes
    trigger: str = ""


Deliver = Callable[[str, list[ObjectChange], bool], None]
"""deliver(resource, changes, synced): `synced` once the whole first list has been delivered."""


@dataclass(frozen=True)
class Resource:
    """A resource to follow: `name` as in recordings, selectors in the API's syntax.

    An `optional` resource that the API server does not have, or denies, counts as empty.
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


TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


SERVICECIDRS = Resource("servicecidrs", "/apis/networking.k8s.io/v1/servicecidrs", optional=True)


def services(version: tuple[int, int] = NEWEST) -> Resource:
    """The Services for this proxy (SVC-01, SVC-01a)."""
    return Resource("services", "/api/v1/services", _without(PROXY_NAME, version))


def endpointslices(version: tuple[int, int] = NEWEST) -> Resource:
    """The EndpointSlices for this proxy (SVC-01, SVC-01a)."""
    return Resource("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", _without(HEADLESS, version))


def _without(own_label: str, version: tuple[int, int]) -> str:
    return ",".join(f"!{label}" for label in hiding_labels(own_label, version))


def own_node(name: str) -> Resource:
    """Only the Node object of this node."""
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
    """The requested version has expired (410): list again."""


class Follower:
    """Follows one resource until `stop` is set; `run` is a thread's body."""

    def __init__(self, api: ApiClient, resource: Resource, deliver: Deliver, stop: threading.Event) -> None:
        self._api = api
        self._resource = resource
        self._deliver = deliver
        self._stop = stop
        self._versions: dict[Key, str] = {}
        self._version = ""
        self._listed = False
        self._backoff = _BACKOFF_SECONDS

    def run(self) -> None:
        """Follow the resource; never raises: errors are logged and retried with backoff."""
        while not self._stop.is_set():
            try:
                if not self._version:
                    self._relist()
                self._watch()
            except Gone as error:
                _log.warning("Version has expired, listing again", resource=self._resource.name, err=error)
                self._version = ""
                self._pause()
            except (ApiError, msgspec.DecodeError) as error:
                if isinstance(error, msgspec.DecodeError):
                    self._version = ""  # the undecodable data may have been a change
                elif self._resource.optional and error.status in (403, 404):
                    self._deliver(self._resource.name, [], True)
                    self._backoff = _BACKOFF_LIMIT_SECONDS
                _log.warning("List or watch failed", resource=self._resource.name, err=error)
                self._pause()

    def _pause(self) -> None:
        """Wait between half and one and a half of the backoff, which doubles until a list or a watch works."""
        self._stop.wait(self._backoff * (0.5 + random.random()))
        self._backoff = min(2 * self._backoff, _BACKOFF_LIMIT_SECONDS)

    def _relist(self) -> None:
        """Deliver the difference of the list from the known state, page by page: at first everything.

        Delivered objects are known even if a later page fails.  Only the first list may have any version: a later one
        could be older than the known state.
        """
        seen: set[Key] = set()
        query = self._resource.query(limit=str(PAGE), resourceVersion="" if self._listed else ANY_VERSION)
        while True:
            try:
                page = _list(self._api.get(self._resource.path, query))
            except ApiError as error:
                if error.status == 410 and "continue" in query:
                    query = self._resource.query()  # the pages have expired: list without a limit
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

    def _differing(self, items: Iterable[msgspec.Raw], seen: set[Key]) -> list[ObjectChange]:
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
        """Deliver events until the watch ends.

        A watch that was answered counts as successful, however it ends, and is opened again at once, as client-go's
        reflector does, unless it ended within a second without an event.
        """
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
                if time.monotonic() >= started + _SHORT_SECONDS:
                    self._backoff = _BACKOFF_SECONDS
                self._on_event(_event(line))
                self._backoff, came = _BACKOFF_SECONDS, True
                if self._stop.is_set():
                    return
        except ApiError as error:
            if error.status == 410:
                raise Gone(str(error)) from None
            if error.status != 200:
                raise
            _log.info("Watch was interrupted", v=2, resource=self._resource.name, err=error)
        if time.monotonic() >= started + _SHORT_SECONDS:
            self._backoff = _BACKOFF_SECONDS
        elif not came:
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


def _deletion(key: Key) -> ObjectChange:
    """A missed delete, of which only the name is known."""
    return ObjectChange("DELETED", msgspec.json.encode({"metadata": {"namespace": key[0], "name": key[1]}}))


def _change(kind: str, manifest: bytes, meta: _Meta) -> ObjectChange:
    return ObjectChange(kind, manifest, meta.annotations.get(TRIGGER_TIME, "") if meta.annotations else "")
