"""The reason why a run ended early, stored in its folder, as the run's facts cannot contain it."""

from __future__ import annotations

import json
from pathlib import Path

ENDED = "ended.json"


def write_reason(folder: Path, reason: str) -> None:
    """Store a run's first reason; a folder that cannot be written has no report either."""
    file = folder / ENDED
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(json.dumps({"reason": reason}) + "\n", encoding="utf-8")
    except OSError:
        return


def read_reason(folder: Path) -> str:
    """The reason, "" if none was stored."""
    try:
        value = json.loads((folder / ENDED).read_bytes())
    except (OSError, ValueError):
        return ""
    return str(value.get("reason", "")) if isinstance(value, dict) else ""
