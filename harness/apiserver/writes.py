"""Requests that change something: bodies read and judged, then the live store asked.

A read-only API takes Events alone; everything else is 405, as for a resource without the verb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import yaml
from aiohttp import web

from harness.serve import errors, protobuf, wire
from harness.serve.kinds import EVENTS, NEW_EVENTS, PODS, SERVICES
from harness.serve.live import LiveStore, Manifest
from harness.serve.patches import PatchTestFailed, json_patch, merge_patch, strategic_merge_patch
from harness.serve.paths import Target
from harness.serve.scope import scope_of

ATOMIC = {"endpointslices": frozenset({"endpoints", "ports", "addresses"})}
"""Lists that a strategic merge patch replaces, though elsewhere lists of that name merge."""

JSON, YAML = "application/json", "application/yaml"
RETURNED = (PODS, SERVICES)
"""Kinds whose delete answers with the object that was deleted; of others a Status says that it worked."""

STRATEGIC = "application/strategic-merge-patch+json"
PATCHES: dict[str, Callable[..., Any]] = {
    "application/json-patch+json": json_patch,
    "application/merge-patch+json": merge_patch,
    STRATEGIC: strategic_merge_patch,
}


class _Metadata(msgspec.Struct):
    name: str | None = None
    generateName: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resourceVersion: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None


class _Spec(msgspec.Struct):
    nodeName: str | None = None
    terminationGracePeriodSeconds: int | None = None


class Shape(msgspec.Struct):
    """What every manifest must look like to be taken; what else it says is for its readers to judge."""

    metadata: _Metadata
    apiVersion: str | None = None
    kind: str | None = None
    spec: _Spec | None = None
    status: dict | None = None


class Options(msgspec.Struct):
    """What is heeded of DeleteOptions."""

    gracePeriodSeconds: int | None = None
    preconditions: dict[str, str | None] | None = None


class Writes:
    """The writer of an Api."""

    def __init__(self, store: LiveStore, writable: bool) -> None:
        self._store, self._writable = store, writable

    async def handle(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Do what the request asks; ApiError when that cannot be."""
        posts_event = request.method == "POST" and target.kind in (EVENTS, NEW_EVENTS) and not target.name
        if not (self._writable or posts_event) or target.watch:
            raise errors.method_not_allowed()
        form = wire.form_of(request.headers.get("Accept", ""), request.query.get("includeObject"))
        status, answer = self._do(request, target, await request.read())
        body = msgspec.json.encode(answer)
        if answer.get("kind") == target.kind.kind and form.shape != "object":
            found = self._store.collection(target.kind).get(_namespace(target, answer), answer["metadata"]["name"])
            body = wire.one(found, form) if found else body
        return web.Response(body=body, status=status, content_type=JSON)

    def _do(self, request: web.Request, target: Target, body: bytes) -> tuple[int, Manifest]:
        match request.method, bool(target.name), target.subresource:
            case "POST", False, "":
                return 201, self._create(request, target, body)
            case "POST", True, "eviction" if target.kind is PODS:
                return 201, self._evict(request, target, body)
            case "PUT", True, "" | "status":
                manifest = self._addressed(target, _decoded(request, body))
                return 200, self._store.update(target.kind, manifest, target.subresource)
            case "PATCH", True, "" | "status":
                return 200, self._patch(request, target, body)
            case "DELETE", True, "":
                return 200, self._delete(target, _options(request, body))
            case "DELETE", False, "":
                return 200, self._delete_all(request, target, body)
        raise errors.method_not_allowed()

    def _create(self, request: web.Request, target: Target, body: bytes) -> Manifest:
        manifest = self._addressed(target, _decoded(request, body))
        if request.query.get("dryRun"):
            return manifest
        return self._store.create(target.kind, manifest)

    def _patch(self, request: web.Request, target: Target, body: bytes) -> Manifest:
        patcher = PATCHES.get(request.content_type)
        if patcher is None:
            raise errors.unsupported_media_type(", ".join(PATCHES))
        patch = _json(body)
        if request.content_type != "application/json-patch+json" and not isinstance(patch, dict):
            raise errors.bad_request("the patch is not a JSON object")

        atomic = (ATOMIC.get(target.kind.resource, frozenset()),) if patcher is strategic_merge_patch else ()

        def change(old: Manifest) -> Manifest:
            try:
                return self._addressed(target, patcher(old, patch, *atomic))
            except PatchTestFailed as error:
                raise errors.invalid(target.kind, target.name, [("patch", str(error))]) from None
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise errors.bad_request(f"the patch does not fit the object: {error}") from None

        return self._store.patch(target.kind, target.name, target.namespace, change, target.subresource)

    def _evict(self, request: web.Request, target: Target, body: bytes) -> Manifest:
        eviction = _decoded(request, body) if body else {}
        given = eviction.get("deleteOptions") if isinstance(eviction, dict) else None
        self._delete(target, _judged(given or {}))
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def _delete(self, target: Target, options: Options) -> Manifest:
        kind, name, namespace = target.kind, target.name, target.namespace
        with self._store.lock:
            old = self._store.get(kind, name, namespace)
            for field, wanted in (options.preconditions or {}).items():
                if wanted and old["metadata"].get(field) != wanted:
                    raise errors.conflict(kind, name, f"Precondition failed: {field} is {old['metadata'].get(field)}")
            waiting = self._store.delete(kind, name, namespace, options.gracePeriodSeconds)
        if waiting or kind in RETURNED:
            return waiting or old
        return errors.success(kind, name, old["metadata"].get("uid"))

    def _delete_all(self, request: web.Request, target: Target, body: bytes) -> Manifest:
        scope, options = scope_of(target.kind, target.namespace, request.query), _options(request, body)
        objects = [o for o in self._store.collection(target.kind).snapshot().objects if scope.sees(o)]
        for found in objects:
            self._delete(target._replace(namespace=found.namespace, name=found.name), options)
        metadata = {"resourceVersion": str(self._store.collection(target.kind).revision)}
        return {
            "kind": f"{target.kind.kind}List",
            "apiVersion": target.kind.api_version,
            "metadata": metadata,
            "items": [found.manifest() for found in objects],
        }

    def _addressed(self, target: Target, manifest: Any) -> Manifest:
        """The manifest with the path's namespace and name; ApiError 400 when it says others."""
        try:
            msgspec.convert(manifest, Shape)
        except msgspec.ValidationError as error:
            raise errors.bad_request(f"the body is not a {target.kind.kind}: {error}") from None
        kind = manifest.get("kind")
        if kind and kind != target.kind.kind:
            raise errors.bad_request(f'the object is a "{kind}"; a "{target.kind.kind}" is needed')
        wanted = {"name": target.name, "namespace": target.namespace if target.kind.namespaced else ""}
        metadata = dict(manifest["metadata"])
        for field, value in wanted.items():
            if value and metadata.setdefault(field, value) != value:
                text = f"the {field} of the provided object does not match the {field} sent on the request"
                raise errors.bad_request(text)
        return manifest | {"metadata": metadata}


def _namespace(target: Target, answer: Manifest) -> str:
    return answer["metadata"].get("namespace", "") if target.kind.namespaced else ""


def _options(request: web.Request, body: bytes) -> Options:
    """DeleteOptions out of body and query; the body's win."""
    given = _decoded(request, body) if body else {}
    options, grace = _judged(given or {}), request.query.get("gracePeriodSeconds", "")
    if options.gracePeriodSeconds is None and grace.isascii() and grace.isdigit():
        options.gracePeriodSeconds = int(grace)
    return options


def _judged(given: Any) -> Options:
    try:
        return msgspec.convert(given, Options)
    except msgspec.ValidationError as error:
        raise errors.bad_request(f"the body is not DeleteOptions: {error}") from None


def _decoded(request: web.Request, body: bytes) -> Any:
    match request.content_type:
        case "application/json" | "application/octet-stream":
            return _json(body)
        case "application/yaml":
            try:
                return yaml.safe_load(body)
            except yaml.YAMLError as error:
                raise errors.bad_request(f"the body is not YAML: {error}") from None
        case "application/vnd.kubernetes.protobuf":
            try:
                return protobuf.decode(body)
            except KeyError:
                pass
            except ValueError as error:
                raise errors.bad_request(f"the body is not protobuf: {error}") from None
    raise errors.unsupported_media_type(f"{JSON}, {YAML}")


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise errors.bad_request(f"the body is not JSON: {error}") from None
