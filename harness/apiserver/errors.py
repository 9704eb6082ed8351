"""The API's errors: an HTTP code and a Status object, with kube-apiserver's messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from harness.kube.resources import Kind


class Cause(NamedTuple):
    """One reason why an object is invalid: `field` is its path, `reason` the API's machine-readable one."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


class StatusError(Exception):
    """An error response. `code` is the HTTP code, `reason` the API's machine-readable reason."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details

    def status(self) -> dict[str, Any]:
        """The Status object (meta/v1)."""
        fields = {"status": "Failure", "message": self.message, "reason": self.reason, "details": self.details}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, **_present(fields), "code": self.code}

    def body(self) -> bytes:
        """The Status object as JSON."""
        return msgspec.json.encode(self.status()) + b"\n"


def success(kind: Kind, name: str, uid: str | None) -> dict[str, Any]:
    """The Status in response to a delete that removed the object immediately."""
    details = _present({"name": name, "group": kind.group or None, "kind": kind.resource, "uid": uid})
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def not_found(kind: Kind, name: str) -> StatusError:
    """404: no such object."""
    return StatusError(404, "NotFound", f'{kind.qualified} "{name}" not found', _details(kind, name))


def already_exists(kind: Kind, name: str) -> StatusError:
    """409: create of an existing object."""
    return StatusError(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists', _details(kind, name))


def conflict(kind: Kind, name: str, why: str = "") -> StatusError:
    """409: the object was changed since it was read, or `why`."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    text = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}'
    return StatusError(409, "Conflict", text, _details(kind, name))


def expired(asked: int, oldest: int) -> StatusError:
    """410: a watch from a version older than the history."""
    return StatusError(410, "Expired", f"too old resource version: {asked} ({oldest})")


def continue_expired() -> StatusError:
    """410: the snapshot of a continue token has expired."""
    text = (
        "The provided continue parameter is too old to display a consistent list result. "
        "You can start a new list without the continue parameter."
    )
    return StatusError(410, "Expired", text)


def too_new(asked: int, current: int) -> StatusError:
    """504: a list not older than a future resourceVersion."""
    details = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    return StatusError(504, "Timeout", f"Too large resource version: {asked}, current: {current}", details)


def bad_request(message: str) -> StatusError:
    """400."""
    return StatusError(400, "BadRequest", message)


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> StatusError:
    """422."""
    details = _details(kind, name)
    details |= {
        "kind": kind.kind,
        "causes": [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes],
    }
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    head = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    return StatusError(422, "Invalid", f'{head} "{name}" is invalid: {listed}', details)


def method_not_allowed() -> StatusError:
    """405."""
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def no_such_resource() -> StatusError:
    """404 below a known group and version."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def not_acceptable(media_types: str) -> StatusError:
    """406: none of the accepted media types is supported."""
    return StatusError(406, "NotAcceptable", f"only the following media types are accepted: {media_types}")


def unsupported_media_type(media_types: str) -> StatusError:
    """415: a body of an unsupported media type."""
    text = f"the body of the request was in an unknown format - accepted media types include: {media_types}"
    return StatusError(415, "UnsupportedMediaType", text)


def unauthorized() -> StatusError:
    """401."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def _details(kind: Kind, name: str) -> dict[str, Any]:
    return _present({"name": name, "group": kind.group or None, "kind": kind.resource})


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
