"""Results as JSON, the same for every command that writes them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click


def write_json(value: Any, path: str | None) -> None:
    """To standard output for `-`, else the whole file or nothing; None writes nothing."""
    if path:
        write_text(json.dumps(value, indent=2) + "\n", path)


def write_text(text: str, path: str) -> None:
    """To standard output for `-`, else the whole file or nothing."""
    if path == "-":
        click.echo(text, nl=False)
    else:
        partial = Path(f"{path}.partial")
        partial.write_text(text)
        os.replace(partial, path)
