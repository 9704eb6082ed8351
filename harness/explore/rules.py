"""The rules of one Service on a node before and after an event, and their differences.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff
from typing import Any

from engine.manifest import ManifestError
from harness.explore.history import Objects
from harness.explore.views import ManifestFacts
from harness.log.events import JsonObject
from harness.log.state import Key
from harness.replay.plan import program_of

MODES = ("nftables", "iptables", "ipvs")
CONTEXT = 3
"""Unchanged lines around each difference."""


def rules(
    cluster: JsonObject, objects: Objects, facts: ManifestFacts, service: tuple[str, str], mode: str, node: str | None
) -> str:
    """The input for the tools of `mode` on a node where this is the only Service.

    "" without the Service; a message, as a comment, if one of its objects is invalid.
    """
    if ("services", *service) not in objects:
        return ""
    chosen = [(key[0], bytes(objects[key])) for key in concerned(objects, facts, service, node)]
    try:
        programs = program_of(cluster, chosen, mode, node)
    except ManifestError as error:
        return f"# invalid: {error}\n"
    return "".join(_sections(programs))


def concerned(objects: Objects, facts: ManifestFacts, service: tuple[str, str], node: str | None) -> list[Key]:
    """The node (None: the first one), the Service and its slices: all objects that its rules depend on."""
    nodes = [key for key in objects if key[0] == "nodes" and node in (None, key[2])]
    return [*([min(nodes)] if nodes else []), ("services", *service), *facts.slices(objects, *service)]


def changed_lines(before: str, after: str) -> list[dict[str, str]]:
    """The lines of a unified diff, each with its kind: added, removed, same or gap."""
    kinds = {"+": "added", "-": "removed", " ": "same", "@": "gap"}
    lines = unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=CONTEXT)
    return [{"kind": kinds[line[0]], "text": line[1:]} for line in lines if not line.startswith(("---", "+++"))]


def _sections(programs: list[Any]) -> Iterator[str]:
    for program in programs:
        for command, text in program.sections():
            yield f"# IPv{program.family}: {command}\n{text}"
