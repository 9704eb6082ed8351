"""Renders the result for a fleet as a self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePath

from markupsafe import Markup

from harness.fleet import pictures
from harness.fleet.result import FleetNode, FleetResult
from harness.fleet.terminal import ROWS, headline, remarks
from harness.html import words
from harness.html.page import NARROW, WIDE, Pictures, render
from harness.replay.result import Verdict
from harness.wording import plural

SLOWEST, NODES_SHOWN = 20, 50
VERDICTS: dict[Verdict, bool | None] = {True: True, False: False, "unknown": None}
GLOSSARY = (
    ("view", "One node's rules over the whole recording, as its own proxy would have written them."),
    ("convergence", "From a change to its rules being live on a node, on the recording's clock, with all waiting."),
    ("sync for nothing", "A sync that a change asked for, but that sent nothing to this node's kernel."),
    ("dead endpoint", "An endpoint that can no longer answer, from the event that says so to the last node's rules."),
    ("what-if", "The same recording under another setting; the first column is what was recorded."),
)


def fleet_page(result: FleetResult, command: str) -> str:
    """The document; `command` is the one that produced it."""
    values = [VERDICTS[each.verdict] for each in result.objectives]
    value = False if False in values else None if None in values else True
    path = result.recording.path
    return render(
        "harness.fleet", "fleet.html.j2",
        title=f"{plural(result.views, 'node')} of {words.clean(PurePath(path).name if '://' not in path else path)}",
        lines=headline(result).split("\n"), value=value, objectives=list(_objectives(result)),
        columns=[each.name for each in result.columns],
        figures=[(name, [cell(each) for each in result.columns]) for name, cell in ROWS],
        heat=_both(lambda width, key: pictures.heat_map(result.heat, width, key), "heat"),
        spread=_both(lambda width, key: pictures.distribution(result.columns, width, key), "spread"),
        changes=sorted(result.changes, key=lambda each: (-each.last_seconds, each.seq))[:SLOWEST],
        nodes=_slowest(result.nodes), shown=NODES_SHOWN, remarks=remarks(result), glossary=GLOSSARY,
        command=command, short=words.short,
    )  # fmt: skip


def _both(draw: Callable[[float, str], Markup], key: str) -> Pictures:
    return Pictures(draw(WIDE, f"{key}-wide"), draw(NARROW, f"{key}-narrow"))


def _objectives(result: FleetResult) -> Iterator[tuple[str, bool | None, str]]:
    for each in result.objectives:
        figure = "" if each.figure is None else f"{each.figure:.3f}, limit {each.limit:g}"
        yield each.name, VERDICTS[each.verdict], each.why or figure or plural(each.samples, "sample")


def _slowest(nodes: list[FleetNode]) -> list[FleetNode]:
    measured = [(-each.convergence_seconds["p99"], each.node, each) for each in nodes if each.convergence_seconds]
    return [each for _, _, each in sorted(measured, key=lambda one: one[:2])[:NODES_SHOWN]]
