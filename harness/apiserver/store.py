"""Objects and the history of their changes, by resource: the data behind lists and watches.

Theory of operation.  A `Collection` holds one resource: its objects, and a bounded history of `StoreChange`s
with increasing resourceVersions.  A reader is a `Cursor`, one number, into that shared history, so a thousand
watchers cost a thousand numbers; the wire format of a change is encoded once and kept with it.
A reader that falls behind the history, or asks for changes from before it, gets 410 (errors.expired)
and has to list again, as with etcd's compaction.

A resourceVersion is the manifest's own if that increases, so that a recording is served byte for byte; otherwise the
next number.  It never decreases during the store's lifetime, not even when seeking backwards in a recording (`reset`).

Everything here may be called from any thread.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from harness.apiserver import errors
from harness.apiserver.manifest import Object, head_of, own_revision, sealed
from harness.kube.resources import KINDS, NAMESPACES, Kind, kind_of

HISTORY = 10_000
"""Changes kept per resource before the oldest are compacted."""

ALWAYS_THERE = ("default", "kube-node-lease", "kube-public", "kube-system")


class StoreChange:
    """One entry of the history: `type` is ADDED, MODIFIED or DELETED; `object` the last state of a deleted one."""

    __slots__ = ("type", "object", "previous", "frames")

    def __init__(self, type: str, object: Object, previous: Object | None) -> None:
        self.type, self.object, self.previous = type, object, previous
        self.frames: dict[Any, bytes] = {}

    @property
    def revision(self) -> int:
        """The resourceVersion of this change."""
        return self.object.revision

    @property
    def resource(self) -> str:
        """The resource's qualified name."""
        return self.object.kind.qualified

    def manifest(self) -> dict[str, Any]:
        """The object's manifest, freshly decoded."""
        return self.object.manifest()


class Snapshot(NamedTuple):
    """All objects of a resource by namespace and name, at one resourceVersion."""

    revision: int
    objects: tuple[Object, ...]


class Collection:
    """One resource. Only its Store applies changes."""

    def __init__(self, kind: Kind, lock: threading.RLock, history: int) -> None:
        self.kind, self.revision, self.compacted = kind, 1, 1
        self._objects: dict[tuple[str, str], Object] = {}
        self._snapshot: Snapshot | None = None
        self._history: list[StoreChange] = []
        self._first = 0  # number of changes before _history[0]
        self._limit, self._lock = history, lock

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        return self._objects.get((namespace, name))

    def snapshot(self) -> Snapshot:
        """The current objects; the same value until something changes."""
        with self._lock:
            if self._snapshot is None:
                objects = tuple(sorted(self._objects.values(), key=lambda found: found.key))
                self._snapshot = Snapshot(self.revision, objects)
            return self._snapshot

    def cursor(self, since: int) -> Cursor:
        """A reader of all changes after the resourceVersion `since`; StatusError 410 if that was compacted."""
        with self._lock:
            if since < self.compacted:
                raise errors.expired(since, self.compacted)
            place = bisect.bisect_right(self._history, since, key=lambda change: change.revision)
            return Cursor(self, self._first + place, since)

    def read(self, place: int, since: int, limit: int) -> tuple[list[StoreChange], int]:
        """Up to `limit` changes from a position in the history, and the resourceVersion reached."""
        with self._lock:
            index = place - self._first
            if index < 0 or since < self.compacted:
                raise errors.expired(since, self.compacted)
            changes = self._history[index : index + limit]
            whole = index + len(changes) == len(self._history)
            return changes, self.revision if whole else changes[-1].revision

    def put(self, change: StoreChange) -> None:
        """Append a change and apply it to the objects."""
        if change.type == "DELETED":
            del self._objects[change.object.key]
        else:
            self._objects[change.object.key] = change.object
        self.advance(change.revision)
        self._history.append(change)
        if len(self._history) >= 2 * self._limit:
            self._compact(len(self._history) - self._limit)

    def advance(self, revision: int) -> None:
        """Record that nothing in this resource changes up to `revision`."""
        self.revision = max(self.revision, revision)
        self._snapshot = None

    def clear(self) -> None:
        """Drop all objects without events, after all watches have been expired."""
        self._objects.clear()
        self._snapshot = None

    def forget(self) -> None:
        """Compact everything: only later changes can be watched."""
        self._compact(len(self._history))
        self.compacted = self.revision

    def _compact(self, count: int) -> None:
        if count:
            self.compacted = self._history[count - 1].revision
            self._first += count
            del self._history[:count]


class Cursor:
    """One reader of a collection."""

    def __init__(self, collection: Collection, place: int, since: int) -> None:
        self._collection, self._place, self.revision = collection, place, since

    def take(self, limit: int = 256) -> list[StoreChange]:
        """The next changes, if any; StatusError 410 if it fell behind.

        `revision` is the resourceVersion up to which all changes have been read.
        """
        changes, revision = self._collection.read(self._place, self.revision, limit)
        self._place += len(changes)
        self.revision = max(self.revision, revision)
        return changes


class Store:
    """All collections. Subscribers are called for each change in order, in the writer's thread: they must be fast."""

    def __init__(self, history: int = HISTORY) -> None:
        self.lock = threading.RLock()
        self.collections = {kind.qualified: Collection(kind, self.lock, history) for kind in KINDS}
        self._subscribers: list[Callable[[StoreChange], None]] = []
        for name in ALWAYS_THERE:
            self._ensure_namespace(name)

    @property
    def revision(self) -> int:
        """The highest resourceVersion assigned."""
        return max(collection.revision for collection in self.collections.values())

    def collection(self, resource: str | Kind) -> Collection:
        """The collection of a resource; KeyError with a message if it is not served."""
        return self.collections[kind_of(resource).qualified]

    def subscribe(self, subscriber: Callable[[StoreChange], None]) -> Callable[[], None]:
        """Call `subscriber` with every further change; returns a function that unsubscribes it."""
        with self.lock:
            self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            # Under the lock, so that no call is in progress when this returns.
            with self.lock:
                self._subscribers.remove(subscriber)

        return unsubscribe

    def put(self, resource: str | Kind, raw: bytes, *, ordered: bool = True) -> StoreChange:
        """Store the JSON of a manifest unchanged; ValueError if it is invalid or has no name.

        `ordered` False is for an initial list, whose resourceVersions are unordered.
        """
        collection, head = self.collection(resource), head_of(raw)
        kind = collection.kind
        namespace = (head.metadata.namespace or "") if kind.namespaced else ""
        with self.lock:
            revision = self._revision(collection, own_revision(head), ordered)
            if namespace:
                self._ensure_namespace(namespace)
            previous = collection.get(namespace, head.metadata.name)
            entry = Object(kind, namespace, head.metadata.name, revision, sealed(kind, raw, head, revision))
            return self._publish(collection, StoreChange("MODIFIED" if previous else "ADDED", entry, previous))

    def remove(self, resource: str | Kind, namespace: str, name: str, last: bytes | None = None) -> StoreChange | None:
        """Remove an object, with its final manifest `last` if known; None if it does not exist."""
        collection = self.collection(resource)
        with self.lock:
            previous = collection.get(namespace, name)
            if previous is None:
                return None
            raw = last or previous.raw
            head = head_of(raw)
            revision = self._revision(collection, own_revision(head), ordered=True)
            entry = Object(collection.kind, namespace, name, revision, sealed(collection.kind, raw, head, revision))
            return self._publish(collection, StoreChange("DELETED", entry, previous))

    def forget(self) -> None:
        """Compact all history: the current objects are the initial list."""
        with self.lock:
            for collection in self.collections.values():
                collection.forget()

    def expire(self) -> None:
        """Expire every resourceVersion assigned so far; objects are kept."""
        with self.lock:
            beyond = self.revision + 1
            for collection in self.collections.values():
                collection.advance(beyond)
                collection.forget()

    def reset(self) -> None:
        """Empty the store and expire every resourceVersion assigned so far."""
        with self.lock:
            self.expire()
            for collection in self.collections.values():
                collection.clear()
            for name in ALWAYS_THERE:
                self._ensure_namespace(name)

    def changes(self, resource: str | Kind, since: int) -> Iterator[StoreChange]:
        """The changes in the history after `since`."""
        cursor = self.collection(resource).cursor(since)
        while taken := cursor.take():
            yield from taken

    def _revision(self, collection: Collection, own: int | None, ordered: bool) -> int:
        if own is not None and (own > collection.revision or not ordered):
            return own
        return collection.revision + 1

    def _publish(self, collection: Collection, change: StoreChange) -> StoreChange:
        collection.put(change)
        for subscriber in tuple(self._subscribers):
            subscriber(change)
        return change

    def _ensure_namespace(self, name: str) -> None:
        if self.collections[NAMESPACES.qualified].get("", name) is None:
            manifest = {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            }
            self.put(NAMESPACES, msgspec.json.encode(manifest))
