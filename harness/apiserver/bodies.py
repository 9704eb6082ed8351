"""Parses request bodies by media type."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml
from aiohttp import web

from harness.apiserver import errors, protobuf

JSON, YAML = "application/json", "application/yaml"


def body_of(request: web.Request, body: bytes) -> Any:
    """The parsed body; StatusError 400 or 415."""
    match request.content_type:
        case "application/json" | "application/octet-stream":
            return json_of(body)
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


def json_of(body: bytes) -> Any:
    """The body as JSON; StatusError 400."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise errors.bad_request(f"the body is not JSON: {error}") from None
