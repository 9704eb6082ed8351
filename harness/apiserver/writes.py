"""Write requests: bodies are parsed and validated, then applied to the live store.

A read-only API accepts only Events; everything else is 405, as for a resource without the verb.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from harness.apiserver import errors, wire
from harness.apiserver.bodies import JSON, body_of, json_of
from harness.apiserver.live import LiveStore
from harness.apiserver.paths import RequestTarget
from harness.apiserver.scope import scope_of
from harness.apiserver.unknown_fields import STRICT, WARN, directive, unknown_fields
from harness.kube.patches import PatchNotApplicable, json_patch, merge_patch, strategic_merge_patch
from harness.kube.resources import EVENTS, NEW_EVENTS, PODS, SERVICES, Manifest
from harness.log.events import JsonObject

RETURNED = (PODS, SERVICES)
"""Kinds whose delete returns the deleted object; others return a Status."""

_WARNINGS = web.RequestKey("warnings", list[str])
"""A request's warnings, for its response."""

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
    """The structure required of every manifest; everything else is left to its readers."""

    metadata: _Metadata
    apiVersion: str | None = None
    kind: str | None = None
    spec: _Spec | None = None
    status: JsonObject | None = None


class DeleteOptions(msgspec.Struct):
    """The supported fields of DeleteOptions."""

    gracePeriodSeconds: int | None = None
    preconditions: dict[str, str | None] | None = None
    dryRun: list[str] | None = None


class Writes:
    """Handles the writes of an API."""

    def __init__(self, store: LiveStore, writable: bool) -> None:
        self._store, self._writable = store, writable

    async def handle(self, request: web.Request, target: RequestTarget) -> web.StreamResponse:
        """Execute the request; StatusError if it cannot be done."""
        posts_event = request.method == "POST" and target.kind in (EVENTS, NEW_EVENTS) and not target.name
        if not (self._writable or posts_event) or target.watch:
            raise errors.method_not_allowed()
        form = wire.form_of(request.headers.get("Accept", ""), request.query.get("includeObject"))
        body = await request.read()
        dry = _is_dry(request, body)
        writes = Writes(self._store.rehearsal(target.kind), self._writable) if dry else self
        status, answer = writes._do(request, target, body)
        response = web.Response(body=writes._shown(target, answer, form), status=status, content_type=JSON)
        response.headers.extend(("Warning", f"299 - {json.dumps(text)}") for text in request.get(_WARNINGS, ()))
        return response

    def _shown(self, target: RequestTarget, answer: Manifest, form: wire.Form) -> bytes:
        """A response in the requested format."""
        if answer.get("kind") == target.kind.kind and form.shape != "object":
            found = self._store.collection(target.kind).get(_namespace(target, answer), answer["metadata"]["name"])
            if found:
                return wire.one(found, form)
        return msgspec.json.encode(answer)

    def _do(self, request: web.Request, target: RequestTarget, body: bytes) -> tuple[int, Manifest]:
        match request.method, bool(target.name), target.subresource:
            case "POST", False, "":
                return 201, self._store.create(target.kind, _sent(request, target, body))
            case "POST", True, "eviction" if target.kind is PODS:
                return 201, self._evict(request, target, body)
            case "PUT", True, "" | "status":
                return 200, self._store.update(target.kind, _sent(request, target, body), target.subresource)
            case "PATCH", True, "" | "status":
                return 200, self._patch(request, target, body)
            case "DELETE", True, "":
                return 200, self._delete(target, _options(request, body))
            case "DELETE", False, "":
                return 200, self._delete_all(request, target, body)
        raise errors.method_not_allowed()

    def _patch(self, request: web.Request, target: RequestTarget, body: bytes) -> Manifest:
        patcher = PATCHES.get(request.content_type)
        if patcher is None:
            raise errors.unsupported_media_type(", ".join(PATCHES))
        patch = json_of(body)
        if request.content_type != "application/json-patch+json" and not isinstance(patch, dict):
            raise errors.bad_request("the patch is not a JSON object")

        atomic = (target.kind.atomic,) if patcher is strategic_merge_patch else ()

        def change(old: Manifest) -> Manifest:
            try:
                new = _addressed(target, patcher(old, patch, *atomic))
            except PatchNotApplicable as error:
                raise errors.invalid(target.kind, target.name, [errors.Cause("patch", str(error))]) from None
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise errors.bad_request(f"the patch does not fit the object: {error}") from None
            before = unknown_fields(target.kind, old)
            added = [text for text in unknown_fields(target.kind, new) if text not in before]
            if refused := _strictly(request, added):
                raise errors.invalid(target.kind, target.name, [errors.Cause("patch", refused)])
            return new

        return self._store.patch(target.kind, target.name, target.namespace, change, target.subresource)

    def _evict(self, request: web.Request, target: RequestTarget, body: bytes) -> Manifest:
        eviction = body_of(request, body) if body else {}
        given = eviction.get("deleteOptions") if isinstance(eviction, dict) else None
        self._delete(target, _judged(given or {}))
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def _delete(self, target: RequestTarget, options: DeleteOptions) -> Manifest:
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

    def _delete_all(self, request: web.Request, target: RequestTarget, body: bytes) -> Manifest:
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


def _sent(request: web.Request, target: RequestTarget, body: bytes) -> Manifest:
    """The manifest in the body, with its unknown fields treated as requested; StatusError 400 or 415."""
    manifest = _addressed(target, body_of(request, body))
    if refused := _strictly(request, unknown_fields(target.kind, manifest)):
        kind = target.kind
        text = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {refused}'
        raise errors.bad_request(text)
    return manifest


def _strictly(request: web.Request, unknown: list[str]) -> str:
    """The error for a request that refuses unknown fields, else ""; by default they become warnings."""
    wanted = directive(request.query.getall("fieldValidation", []))
    if wanted == WARN:
        request[_WARNINGS] = unknown
    return f"strict decoding error: {', '.join(unknown)}" if unknown and wanted == STRICT else ""


def _addressed(target: RequestTarget, manifest: Any) -> Manifest:
    """The manifest with the path's namespace and name; StatusError 400 if they differ."""
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
    return {**manifest, "metadata": metadata}


def _is_dry(request: web.Request, body: bytes) -> bool:
    """Whether it is a dry run, by the query or by DeleteOptions; StatusError 400 for anything but All."""
    values = request.query.getall("dryRun", [])
    if body and (request.method == "DELETE" or request.path.endswith("/eviction")):
        given = body_of(request, body) or {}
        options = given.get("deleteOptions", given) if isinstance(given, dict) else given
        values = [*values, *(_judged(options or {}).dryRun or ())]
    if unknown := [value for value in values if value not in ("", "All")]:
        raise errors.bad_request(f'dryRun: Unsupported value: {unknown[0]!r}: supported values: "All"')
    return "All" in values


def _namespace(target: RequestTarget, answer: Manifest) -> str:
    return answer["metadata"].get("namespace", "") if target.kind.namespaced else ""


def _options(request: web.Request, body: bytes) -> DeleteOptions:
    """DeleteOptions from body and query; the body takes precedence."""
    given = body_of(request, body) if body else {}
    options, grace = _judged(given or {}), request.query.get("gracePeriodSeconds", "")
    if options.gracePeriodSeconds is None and grace.isascii() and grace.isdigit():
        options.gracePeriodSeconds = int(grace)
    return options


def _judged(given: Any) -> DeleteOptions:
    try:
        return msgspec.convert(given, DeleteOptions)
    except msgspec.ValidationError as error:
        raise errors.bad_request(f"the body is not DeleteOptions: {error}") from None
