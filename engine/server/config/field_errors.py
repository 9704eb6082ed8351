"""Validation errors in the format of Kubernetes' API machinery: path, kind of error, value, valid values."""

from __future__ import annotations

import json

from engine.server.config.duration import Duration


def invalid(path: str, value: object, detail: str) -> str:
    """`path: Invalid value: VALUE: detail`."""
    return f"{path}: Invalid value: {go_text(value)}: {detail}"


def unsupported(path: str, value: str, supported: tuple[str, ...]) -> str:
    """`path: Unsupported value: VALUE: supported values: ...`."""
    return f"{path}: Unsupported value: {quoted(value)}: supported values: {', '.join(map(quoted, supported))}"


def duplicate(path: str, value: object) -> str:
    """`path: Duplicate value: VALUE`."""
    return f"{path}: Duplicate value: {go_text(value)}"


def forbidden(path: str, detail: str) -> str:
    """`path: Forbidden: detail`."""
    return f"{path}: Forbidden: {detail}"


def required(path: str, detail: str) -> str:
    """`path: Required value: detail`."""
    return f"{path}: Required value: {detail}"


def aggregate(errors: list[str] | tuple[str, ...]) -> str:
    """One error as it is, several in brackets, without duplicates."""
    distinct = list(dict.fromkeys(errors))
    return distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"


def go_text(value: object) -> str:
    """A value as shown in Kubernetes' error messages: JSON, with durations as text."""
    if isinstance(value, Duration):
        return quoted(str(value))
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def quoted(text: str) -> str:
    """Go's %q of a text."""
    return json.dumps(text, ensure_ascii=False)
