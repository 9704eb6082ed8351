"""The bugs: small edits of the current code, each of a text that occurs exactly once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).with_name("data")


class CatalogueError(Exception):
    """A mutant that does not match the current code; the message states which and why."""


class Edit(NamedTuple):
    """Replace `old`, which occurs once in `file`, by `new`."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """One bug. `group` is its file's name, which determines its gates."""

    id: str
    mode: str
    what: str
    group: str
    edits: tuple[Edit, ...]

    @property
    def in_daemon(self) -> bool:
        """Whether it is in code that only a running daemon reaches."""
        return self.group == "daemon"


def mutants() -> list[Mutant]:
    """All of them, group by group."""
    found = []
    for path in sorted(DATA.glob("*.yaml")):
        for entry in yaml.load(path.read_text(), yaml.CSafeLoader):
            edits = tuple(Edit(**edit) for edit in entry.pop("edits"))
            found.append(Mutant(**entry, group=path.stem, edits=edits))
    return found


def survivors() -> dict[str, str]:
    """Mutants that no gate is expected to detect, each with the reason."""
    return yaml.safe_load(Path(__file__).with_name("survivors.yaml").read_text()) or {}


def edited(mutant: Mutant, root: Path = ROOT) -> dict[str, str]:
    """The files it changes, with their new text; CatalogueError when an edit does not fit."""
    texts: dict[str, str] = {}
    for file, old, new in mutant.edits:
        text = texts.get(file) or (root / file).read_text()
        if text.count(old) != 1:
            raise CatalogueError(f"{mutant.id}: its text occurs {text.count(old)} times in {file}, not once")
        texts[file] = text.replace(old, new)
    return texts
