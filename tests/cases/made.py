"""Builds a test's own cases from objects and flows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.acceptance.cases import Case, parse
from harness.conformance.corpus.clusters import CONFIG


def case(
    name: str,
    objects: list[dict],
    flows: list[dict],
    then=(),
    asserts=None,
    first: str | None = None,
    last: str | None = None,
    **config: Any,
) -> Case:
    written = {"name": name, "config": CONFIG | config, "objects": objects, "flows": flows, "then": list(then)}
    more = {"asserts": asserts, "min_version": first, "max_version": last}
    return parse(Path("case.json"), written | {key: value for key, value in more.items() if value})
