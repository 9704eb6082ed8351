"""Saved results, recognized by the fields that their schemas require, as the pages that their own commands write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from harness.cli.endings import Ending

EXIT_INPUT = 2
MOST_BYTES = 1 << 30

Result = Mapping[str, Any]
Page = Callable[[Result, str], str]


class ResultKind(NamedTuple):
    """A command, fields that only its result has together, and its page."""

    command: str
    fields: frozenset[str]
    page: Page


def page_of(path: str, shown_by: str) -> str | None:
    """The page of the result in that file; None for anything else. Ends the command if the result is not complete."""
    result = _decoded(Path(path))
    kind = next((each for each in KINDS if result and each.fields <= result.keys()), None)
    if result is None or kind is None:
        return None
    try:
        return kind.page(result, shown_by)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise Ending(f"{path}: not a complete result of `harness {kind.command}`: {error!r}", EXIT_INPUT) from None


def _decoded(path: Path) -> dict[str, Any] | None:
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None  # the reader of recordings says what it is


def _bench(result: Result, command: str) -> str:
    from harness.bench.history import line_of
    from harness.bench.page import page

    return page(result, [line_of(result)], command)


def _conformance(result: Result, command: str) -> str:
    from harness.conformance.report import page

    return page(dict(result), command)


def _fleet(result: Result, command: str) -> str:
    from harness.fleet.page import fleet_page

    return fleet_page(result, command)


def _replay(result: Result, command: str) -> str:
    from harness.replay.report.page import replay_page

    return replay_page(result, command)


def _modes(result: Result, command: str) -> str:
    from harness.replay.report.page import comparison_page

    return comparison_page(result, command)


def _versions(result: Result, command: str) -> str:
    from harness.replay.report.page import upgrade_page

    return upgrade_page(result, command)


def _changes(result: Result, command: str) -> str:
    from harness.replay.report.page import changes_page

    return changes_page(result, command)


def _tune(result: Result, command: str) -> str:
    from harness.fleet.tune_page import tune_page

    return tune_page(result, command)


KINDS = (
    ResultKind("bench --json", frozenset({"profile", "rows", "growth", "gate"}), _bench),
    ResultKind("conformance --json", frozenset({"proxy", "cases", "rules"}), _conformance),
    ResultKind("fleet --json", frozenset({"views", "columns", "heat"}), _fleet),
    ResultKind("replay --json", frozenset({"recording", "change", "timeline", "digest"}), _replay),
    ResultKind("compare --kube-versions --json", frozenset({"modes", "kube_versions", "changes"}), _versions),
    ResultKind("compare --json", frozenset({"source", "modes", "differences"}), _modes),
    ResultKind("tune --json", frozenset({"recording", "method", "points"}), _tune),
    ResultKind("compare BEFORE AFTER --json", frozenset({"before", "after", "figures"}), _changes),
)
