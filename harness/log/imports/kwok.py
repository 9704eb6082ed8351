"""One step of a KWOK recording: the kind ResourcePatch of `kwokctl snapshot export --record`.

The stream begins with the snapshot, one document per object.  Then each change is a document with its time
(nanoseconds since the recording began), its object and its kind: `create` with the whole object, `patch` with
a strategic merge patch, `delete` with nothing.  Times inside objects are relative to the beginning, written as
`$(time-offset-nanosecond N)`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from harness.kube.patches import strategic_merge_patch
from harness.kube.resources import BY_NAME, RECORDED

KIND, GROUP = "ResourcePatch", "action.kwok.x-k8s.io"
RESOURCES = {(kind.group, kind.resource): kind.resource for kind in RECORDED}

_OFFSET = re.compile(rb"\$\(time-offset-nanosecond (-?[0-9]{1,19})\)")


class _Resource(msgspec.Struct):
    resource: str
    group: str = ""


class _Target(msgspec.Struct):
    name: str
    namespace: str = ""


class ResourcePatch(msgspec.Struct):
    """One change; `template` is the object, or the patch, and absent in a deletion."""

    resource: _Resource
    target: _Target
    durationNanosecond: int
    method: str
    template: dict[str, Any] | None = None

    @property
    def known(self) -> str | None:
        """Our name for the resource; None if recordings do not hold it."""
        return RESOURCES.get((self.resource.group, self.resource.resource))


def is_patch(document: dict[str, Any]) -> bool:
    """Whether a document is a step of a recording, not an object of the cluster."""
    return document.get("kind") == KIND and str(document.get("apiVersion")).startswith(GROUP + "/")


def resource_patch(document: dict[str, Any]) -> ResourcePatch:
    """The typed document; ValueError names an invalid field."""
    patch = msgspec.convert(document, ResourcePatch)
    if patch.method not in ("create", "patch", "delete"):
        raise ValueError(f"method is {patch.method!r}; create, patch or delete is needed")
    if patch.method != "delete" and patch.template is None:
        raise ValueError(f"method {patch.method} without a template")
    return patch


def patched(resource: str, manifest: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """The object after a patch; ValueError if the patch does not apply."""
    try:
        return strategic_merge_patch(manifest, patch, BY_NAME[resource].atomic)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the patch does not fit the object ({error!r})") from None


def absolute_times(manifest: bytes, start: datetime) -> bytes:
    """The object's JSON with every relative time as RFC 3339 with microseconds, as KWOK itself writes it."""
    return _OFFSET.sub(lambda found: _time(start, int(found[1])), manifest) if b"$(" in manifest else manifest


def _time(start: datetime, offset: int) -> bytes:
    at = (start + timedelta(microseconds=offset // 1000)).astimezone(UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
