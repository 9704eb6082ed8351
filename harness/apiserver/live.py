"""A store that accepts writes like the API server: from clients over HTTP, and from code in this process.

    store.apply("services", manifest)                  create or replace unconditionally
    store.create / update / patch                      as in the API: conflicts, generations, status
    store.delete("pods", "web-1", "shop")              graceful if a pod has to end first
    store.get("nodes", "node-1"), store.list("pods")   manifests, freshly decoded, owned by the caller
    store.watch("pods")                                changes as they happen; blocks
    store.subscribe(callback)                          every change, in the writer's thread

All methods raise StatusError as the API would respond.  They may be called from any thread; writes are visible to
clients immediately.
"""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from harness.apiserver import errors
from harness.apiserver.admission import Admission
from harness.apiserver.event_forms import as_twin, twin
from harness.apiserver.manifest import Object, with_type
from harness.apiserver.store import HISTORY, Store, StoreChange
from harness.kube.resources import NAMESPACES, PODS, Kind, Manifest, kind_of

GRACE_SECONDS = 30
"""Grace period of a pod if neither the delete nor its spec sets one."""

OURS = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
"""Metadata set only by the server."""


def now() -> datetime:
    """The clock of creation and deletion timestamps."""
    return datetime.now(UTC)


class LiveStore(Store):
    """See the module. `clock` returns timestamps, `new_uid` the uids of created objects.

    With `admission`, `create`, `update` and `patch` validate objects and fill in defaults; `apply` never does.
    """

    def __init__(
        self,
        history: int = HISTORY,
        clock: Callable[[], datetime] = now,
        new_uid: Callable[[], str] = lambda: str(uuid.uuid4()),
        admission: Admission | None = None,
    ) -> None:
        self._clock, self._new_uid, self._admission = clock, new_uid, admission
        super().__init__(history)

    def get(self, resource: str | Kind, name: str, namespace: str = "") -> Manifest:
        """The object; StatusError 404."""
        return self._found(kind_of(resource), name, namespace).manifest()

    def list(self, resource: str | Kind, namespace: str = "") -> list[Manifest]:
        """All objects, or those of one namespace, ordered by namespace and name."""
        objects = self.collection(resource).snapshot().objects
        return [found.manifest() for found in objects if not namespace or found.namespace == namespace]

    def apply(self, resource: str | Kind, manifest: Manifest) -> Manifest:
        """Create or replace the object, including status, without conflict detection. No-op if equal."""
        kind = kind_of(resource)
        with self.lock:
            name, namespace = _identity(kind, manifest)
            old = self.collection(kind).get(namespace, name)
            return self._create(kind, manifest) if old is None else self._replace(kind, old.manifest(), manifest)

    def create(self, resource: str | Kind, manifest: Manifest) -> Manifest:
        """Create an object, with a name from metadata.generateName if needed; StatusError 409 if it exists."""
        kind = kind_of(resource)
        metadata = manifest.get("metadata") or {}
        if not metadata.get("name") and metadata.get("generateName"):
            manifest = manifest | {"metadata": metadata | {"name": metadata["generateName"] + secrets.token_hex(3)[:5]}}
        with self.lock:
            name, namespace = _identity(kind, manifest)
            if self.collection(kind).get(namespace, name) is not None:
                raise errors.already_exists(kind, name)
            return self._create(kind, self._admitted(kind, manifest, None))

    def update(self, resource: str | Kind, manifest: Manifest, subresource: str = "") -> Manifest:
        """Replace an existing object; 409 if `manifest` has an outdated resourceVersion.

        Status is kept, unless `subresource` is "status": then only status changes.
        """
        kind = kind_of(resource)
        with self.lock:
            name, namespace = _identity(kind, manifest)
            old = self._found(kind, name, namespace).manifest()
            _check_current(kind, old, manifest)
            return self._replace(kind, old, self._divided(kind, old, manifest, subresource))

    def patch(
        self,
        resource: str | Kind,
        name: str,
        namespace: str,
        change: Callable[[Manifest], Manifest],
        subresource: str = "",
    ) -> Manifest:
        """Replace an object with the result of `change`, atomically."""
        kind = kind_of(resource)
        with self.lock:
            old = self._found(kind, name, namespace).manifest()
            new = change(old)
            if _identity(kind, new) != (name, namespace if kind.namespaced else ""):
                raise errors.bad_request("the name and namespace of an object do not change")
            _check_current(kind, old, new)
            return self._replace(kind, old, self._divided(kind, old, new, subresource))

    def delete(
        self, resource: str | Kind, name: str, namespace: str = "", grace_seconds: int | None = None
    ) -> Manifest | None:
        """Delete an object; returns None if it is removed, or the terminating object; StatusError 404.

        A pod on a node remains, with a deletionTimestamp, until it is deleted with `grace_seconds` 0, as
        kubelets do once its processes have ended.  Objects with finalizers remain until these are removed.
        """
        kind = kind_of(resource)
        with self.lock:
            old = self._found(kind, name, namespace).manifest()
            grace = _grace(kind, old, grace_seconds)
            if not grace and not old["metadata"].get("finalizers"):
                self._remove(kind, old)
                return None
            metadata = old["metadata"]
            if (metadata.get("deletionGracePeriodSeconds") or 0) <= grace and metadata.get("deletionTimestamp"):
                return old
            marks: dict[str, Any] = {"deletionTimestamp": _rfc3339(self._clock() + timedelta(seconds=grace))}
            marks["deletionGracePeriodSeconds"] = grace
            return self._publish_manifest(kind, old | {"metadata": metadata | marks})

    def rehearsal(self, resource: str | Kind) -> LiveStore:
        """A separate store with a copy of this resource's objects; writes to it do not affect this one."""
        copy = LiveStore(clock=self._clock, new_uid=self._new_uid, admission=self._admission)
        for found in self.collection(resource).snapshot().objects:
            copy.put(resource, found.raw, ordered=False)
        return copy

    def watch(
        self, resource: str | Kind, since: int | None = None, timeout: float | None = None
    ) -> Iterator[StoreChange]:
        """Changes after a resourceVersion (by default the current one); ends after `timeout` seconds."""
        collection, bell = self.collection(resource), threading.Event()
        cursor = collection.cursor(collection.revision if since is None else since)
        end = None if timeout is None else time.monotonic() + timeout
        unsubscribe = self.subscribe(lambda change: bell.set())
        try:
            while True:
                bell.clear()
                yield from (taken := cursor.take())
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return
                if not taken:
                    bell.wait(left)
        finally:
            unsubscribe()

    def _admitted(self, kind: Kind, new: Manifest, old: Manifest | None) -> Manifest:
        if self._admission is None:
            return new
        return self._admission.admit(kind, new, old, self.collection(kind).snapshot().objects)

    def _divided(self, kind: Kind, old: Manifest, new: Manifest, subresource: str) -> Manifest:
        """The part that a write may change, as it is stored: all but status, or only status."""
        divided = _divided(kind, old, new, subresource)
        if subresource == "status":
            return self._admission.admit_status(kind, divided) if self._admission else divided
        return self._admitted(kind, divided, old)

    def _found(self, kind: Kind, name: str, namespace: str) -> Object:
        found = self.collection(kind).get(namespace if kind.namespaced else "", name)
        if found is None:
            raise errors.not_found(kind, name)
        return found

    def _create(self, kind: Kind, manifest: Manifest) -> Manifest:
        # kubectl sends null for fields that it leaves to the server.
        given = manifest["metadata"].items()
        metadata = {name: value for name, value in given if name != "resourceVersion" and value is not None}
        born: dict[str, Any] = {"uid": self._new_uid(), "creationTimestamp": _rfc3339(self._clock())}
        if "spec" in manifest or kind.resource == "endpointslices":
            born["generation"] = 1
        if kind.namespaced:
            born["namespace"] = "default"
        if kind is NAMESPACES:
            manifest = {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}} | manifest
        return self._publish_manifest(kind, manifest | {"metadata": born | metadata})

    def _replace(self, kind: Kind, old: Manifest, new: Manifest) -> Manifest:
        kept = {
            name: old["metadata"][name] for name in ("namespace", *OURS, "resourceVersion") if name in old["metadata"]
        }
        new = with_type(kind, new | {"metadata": new["metadata"] | kept})
        if new == old:
            return old
        if "generation" in kept and _desired(new) != _desired(old):
            new["metadata"]["generation"] = kept["generation"] + 1
        ending = new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers")
        if ending and old["metadata"].get("finalizers") and not new["metadata"].get("deletionGracePeriodSeconds"):
            self._remove(kind, new)
            return new
        return self._publish_manifest(kind, new)

    def _publish_manifest(self, kind: Kind, manifest: Manifest) -> Manifest:
        stored = self.put(kind, _encode(kind, manifest)).manifest()
        if other := twin(kind):
            self.put(other, _encode(other, as_twin(kind, stored)))
        return stored

    def _remove(self, kind: Kind, manifest: Manifest) -> None:
        name, namespace = _identity(kind, manifest)
        self.remove(kind, namespace, name, _encode(kind, manifest))
        if other := twin(kind):
            self.remove(other, namespace, name)


def _encode(kind: Kind, manifest: Manifest) -> bytes:
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "managedFields"}
    metadata.pop("resourceVersion", None)  # the store assigns the next one
    return msgspec.json.encode(with_type(kind, manifest | {"metadata": metadata}))


def _identity(kind: Kind, manifest: Manifest) -> tuple[str, str]:
    """Name and namespace; StatusError 422 if the name is missing, 400 if a required namespace is."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise errors.invalid(
            kind, "", [errors.Cause("metadata.name", "Required value: name or generateName is required")]
        )
    if not kind.namespaced:
        return metadata["name"], ""
    return metadata["name"], metadata.get("namespace") or "default"


def _check_current(kind: Kind, old: Manifest, new: Manifest) -> None:
    asked = new["metadata"].get("resourceVersion")
    if asked and asked != old["metadata"]["resourceVersion"]:
        raise errors.conflict(kind, old["metadata"]["name"])
    uid = new["metadata"].get("uid")
    if uid and uid != old["metadata"].get("uid"):
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata'].get('uid')}"
        raise errors.conflict(kind, old["metadata"]["name"], why)


def _divided(kind: Kind, old: Manifest, new: Manifest, subresource: str) -> Manifest:
    """The part that a write may change: all but status, or only status."""
    if not kind.status:
        return new
    if subresource == "status":
        return old | ({"status": new["status"]} if "status" in new else {})
    kept = {name: value for name, value in new.items() if name != "status"}
    return kept | ({"status": old["status"]} if "status" in old else {})


def _desired(manifest: Manifest) -> Manifest:
    return {name: value for name, value in manifest.items() if name not in ("metadata", "status")}


def _grace(kind: Kind, pod: Manifest, asked: int | None) -> int:
    """The grace period in seconds; 0 for anything but a pod on a node."""
    spec = pod.get("spec") or {}
    if (
        kind is not PODS
        or not spec.get("nodeName")
        or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    ):
        return 0
    if asked is not None:
        return max(asked, 0)
    grace = spec.get("terminationGracePeriodSeconds")
    return GRACE_SECONDS if grace is None else max(grace, 0)


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
