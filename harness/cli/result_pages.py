"""Saved results, recognized by the fields that their schemas require, as the pages that their own commands write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from harness.cli.endings import Ending
from harness.exit_codes import EXIT_INPUT

MOST_BYTES = 1 << 30

Decoded = dict[str, Any]
Page = Callable[[Decoded, str], str]


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
    except (msgspec.ValidationError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise Ending(f"{path}: not a complete result of `harness {kind.command}`: {error!r}", EXIT_INPUT) from None


def _decoded(path: Path) -> Decoded | None:
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Decoded)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None  # the reader of recordings reports it


def _bench(result: Decoded, command: str) -> str:
    from harness.bench.history import line_of
    from harness.bench.page import page
    from harness.bench.result import BenchResult

    found = msgspec.convert(result, BenchResult)
    return page(found, [line_of(found)], command)


def _conformance(result: Decoded, command: str) -> str:
    from harness.conformance.report import page
    from harness.conformance.result import ConformanceResult

    return page(msgspec.convert(result, ConformanceResult), command)


def _fleet(result: Decoded, command: str) -> str:
    from harness.fleet.page import fleet_page
    from harness.fleet.result import FleetResult

    return fleet_page(msgspec.convert(result, FleetResult), command)


def _replay(result: Decoded, command: str) -> str:
    from harness.replay.report.page import replay_page
    from harness.replay.result import ReplayResult

    return replay_page(msgspec.convert(result, ReplayResult), command)


def _modes(result: Decoded, command: str) -> str:
    from harness.replay.compare.result import Comparison
    from harness.replay.report.page import comparison_page

    return comparison_page(msgspec.convert(result, Comparison), command)


def _versions(result: Decoded, command: str) -> str:
    from harness.replay.compare.result import Upgrade
    from harness.replay.report.page import upgrade_page

    return upgrade_page(msgspec.convert(result, Upgrade), command)


def _changes(result: Decoded, command: str) -> str:
    from harness.replay.compare.result import Changes
    from harness.replay.report.page import changes_page

    return changes_page(msgspec.convert(result, Changes), command)


def _tune(result: Decoded, command: str) -> str:
    from harness.fleet.result import Sweep
    from harness.fleet.tune_page import tune_page

    return tune_page(msgspec.convert(result, Sweep), command)


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
