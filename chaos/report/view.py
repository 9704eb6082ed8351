"""The content of the page as plain values, for the template to lay out.  Pure.

facts and verdict -> View; without facts, a View that states why there are none.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import NamedTuple

import msgspec
from hdrh.histogram import HdrHistogram

from chaos.model import Op
from chaos.report import losses, sequence, timeline
from chaos.report.losses import LostRow
from chaos.report.series import natural
from chaos.report.series import timeline as timeline_of
from chaos.run_facts import RunFacts
from chaos.verdict import Verdict
from chaos.verdict.engines import cpu_seconds
from chaos.verdict.facts import DIGITS, HIGHEST_US, LOWEST_US, Facts, FlowTotal
from chaos.verdict.findings import Finding, trouble_of, unchanged
from harness.html import words
from harness.html.page import NARROW, VALUES, WIDE, Pictures
from harness.wording import plural

MOST_NODES = 6
"""Up to this number of nodes, each has a column in the table of faults; with more, only the slowest is shown."""
MEANINGS = {
    True: "Every objective was met.",
    False: "An objective was missed.",
    None: "The run proves neither that the objectives are met nor that they are missed.",
}


GLOSSARY = (
    ("fault", "A failure injected into the cluster, from its injection to its heal."),
    ("in force", "Evidence of the fault was observed; that its injection was requested does not count."),
    ("readiness lost", "An affected pod stopped being ready: from then on it should get no new requests."),
    ("slices changed", "An EndpointSlice removed the pod's address, which is the input of a service proxy."),
    ("kernel converged", "The kernel of that node had the new rules, according to its own notification."),
    ("lost", "A request without a correct answer in time, counted from when it was due."),
    (
        "refused, timeout, reset, unreachable",
        "The connection was rejected; there was no answer; it was reset; there was no route.",
    ),
    ("error budget", "The share of requests that may be lost."),
    (
        "unknown",
        "The run proves neither that the objectives are met nor that they are missed. It never counts as passed.",
    ),
)


class FaultRow(NamedTuple):
    """One row of the table of faults."""

    finding: Finding
    whom: str
    state: str
    kernels: tuple[str, ...]
    by_cause: str
    by_node: str
    errors: tuple[str, ...]
    accounts: str
    unchanged: str


class FlowRow(NamedTuple):
    """One flow, from all senders."""

    name: str
    sent: int
    failed: int
    causes: str
    percentiles: tuple[str, ...]


class StepRow(NamedTuple):
    """One step of the plan, with its operations as text."""

    number: int
    fault: str
    seconds: str
    pods: str
    nodes: str
    parameters: str
    operations: tuple[str, ...]


class ReportView(NamedTuple):
    """The page."""

    title: str
    word: str
    mark: str
    meaning: str
    verdict: Verdict
    facts: Facts | None = None
    description: str = ""
    line: str = ""
    figures: tuple[tuple[str, str, str], ...] = ()
    over_time: Pictures | None = None
    causes: tuple[tuple[str, int], ...] = ()
    lost: tuple[LostRow, ...] = ()
    followed: Pictures | None = None
    nodes: tuple[str, ...] = ()
    faults: tuple[FaultRow, ...] = ()
    flows: tuple[FlowRow, ...] = ()
    loads: tuple[tuple[str, ...], ...] = ()
    engines: tuple[tuple[str, str, str], ...] = ()
    steps: tuple[StepRow, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()


def view(facts: Facts | None, verdict: Verdict) -> ReportView:
    """The content of the page."""
    word, mark = VALUES[verdict.value]
    meaning = MEANINGS[verdict.value]
    if facts is None:
        return ReportView(words.clean(verdict.experiment) or "A chaos run without facts", word, mark, meaning, verdict)
    line = timeline_of(facts, {f.number: f.lost for f in verdict.findings})
    healed = {window.number: window.healed - window.began for window in line.windows}
    nodes = line.nodes if len(line.nodes) <= MOST_NODES else ()
    return ReportView(
        words.clean(facts.run.experiment.title), word, mark, meaning, verdict, facts,
        description=words.clean(facts.run.experiment.description, 2000),
        line=_line(facts),
        figures=tuple(_figures(facts, verdict)),
        over_time=Pictures(*(timeline.draw(line, width, f"time-{width}") for width in (WIDE, NARROW))),
        causes=tuple((cause, timeline.colour_of(cause)) for cause in line.causes),
        lost=losses.shown(facts),
        followed=Pictures(*(
            sequence.draw(verdict.findings, healed, width, f"followed-{width}") for width in (WIDE, NARROW)
        )) if verdict.findings else None,
        nodes=nodes,
        faults=tuple(_fault(finding, nodes) for finding in verdict.findings),
        flows=tuple(_flows(facts.load.flows)),
        loads=tuple(_loads(facts)),
        engines=tuple(_engines(facts)),
        steps=tuple(_steps(facts)),
        environment=tuple(_environment(facts)),
        commands=again(facts),
    )  # fmt: skip


def again(facts: Facts) -> tuple[str, ...]:
    """The commands that repeat the run, and regenerate its report."""
    file = PurePath(facts.run.experiment.file)
    name = file.stem if file.parts[-3:-1] == ("chaos", "experiments") else str(file)
    return (
        shlex.join(["harness", "chaos", "run", name, "--seed", str(facts.run.seed), *_where(facts.run)]),
        "harness chaos report FOLDER",
    )


def _where(run: RunFacts) -> list[str]:
    """The options for a lab of that mode, or for a dry run on that cluster."""
    cluster = run.cluster
    if not cluster:
        return ["--mode", run.mode]
    allowed = [word for namespace in cluster.limits.namespaces for word in ("--namespace", namespace)]
    context = ["--in-cluster"] if cluster.context == "in-cluster" else ["--context", cluster.context]
    return ["--target", "kube", *context, *allowed, "--service", cluster.service]


def _line(facts: Facts) -> str:
    run = facts.run
    parts = [f"mode {run.mode}", f"seed {run.seed}", plural(len(run.plan.steps) if run.plan else 0, "fault")]
    if run.lab:
        parts.append(f"{plural(run.lab.nodes, 'node')}, {plural(run.lab.pods, 'pod')}")
    return " · ".join([*parts, words.seconds(run.seconds)])


def _figures(facts: Facts, verdict: Verdict) -> Iterator[tuple[str, str, str]]:
    slowest = max(
        (f.slowest_node_seconds for f in verdict.findings if f.slowest_node_seconds is not None), default=None
    )
    never = sorted({node for finding in verdict.findings for node in finding.never_followed}, key=natural)
    p50, p99 = (words.milliseconds(verdict.latency_us.get(name)) for name in ("p50", "p99"))
    share = verdict.engine_cpu_share
    yield "requests lost", f"{verdict.lost:,}", f"{words.percent(verdict.lost, verdict.sent)} of {verdict.sent:,}"
    yield "latency p99", p99, f"median {p50}"
    about = f"not followed by {words.names(never)}" if never else "from slice change to kernel"
    yield "slowest node", words.at_least(slowest, bool(never)), about
    cpus = facts.run.environment.cpus
    yield (
        "engines' CPU",
        words.NOTHING if share is None else words.percent(share, 1),
        f"of {cpus} CPUs, all nodes together",
    )


def _fault(finding: Finding, nodes: tuple[str, ...]) -> FaultRow:
    state = trouble_of(finding) or "healed"
    kernels = tuple(
        words.seconds(finding.nodes_followed[node], "never") if node in finding.nodes_followed else words.NOTHING
        for node in nodes
    )
    if not nodes:
        known = [seconds for seconds in finding.nodes_followed.values() if seconds is not None]
        all_have = bool(known) and len(known) == len(finding.nodes_followed)
        kernels = (words.seconds(max(known) if all_have else None, "never" if finding.nodes_followed else "–"),)
    return FaultRow(
        finding, words.names(finding.nodes or finding.pods), state, kernels, words.counts(finding.lost_by_cause),
        words.counts(finding.lost_by_node), tuple(words.clean(error) for error in finding.errors[:5]),
        accounts(finding),
        unchanged(finding),
    )  # fmt: skip


def accounts(finding: Finding) -> str:
    """Its duration, the attribution of its losses, and their bounds."""
    text = f"in force {words.seconds(finding.in_force_seconds)} of {words.seconds(finding.asked_seconds)}"
    if finding.lost:
        unaccounted = {"without account": finding.unaccounted} if finding.unaccounted else {}
        text += f"; lost: {words.counts({**finding.lost_by_account, **unaccounted})}"
    least, most = finding.bounds
    return words.clean(f"{text}; {least} to {most} may be lost: {finding.arithmetic}")


def _flows(totals: Iterable[FlowTotal]) -> Iterator[FlowRow]:
    """One row per flow name, merged over the processes that sent it."""
    by_name = defaultdict(list)
    for total in totals:
        by_name[total.flow].append(total)
    for name in sorted(by_name):
        these = by_name[name]
        causes: dict[str, int] = defaultdict(int)
        merged = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        for total in these:
            merged.add(HdrHistogram.decode(total.histogram))
            for cause, count in total.causes.items():
                causes[cause] += count
        some = merged.get_total_count() > 0
        ranks = [merged.get_value_at_percentile(p) if some else None for p in (50, 90, 99, 99.9)]
        most = max((t.max_us for t in these if t.max_us is not None), default=None)
        sent, failed = sum(t.sent for t in these), sum(t.failed for t in these)
        shown = tuple(map(words.milliseconds, [*ranks, most]))
        yield FlowRow(words.clean(name, 60), sent, failed, words.counts(causes), shown)


def _loads(facts: Facts) -> Iterator[tuple[str, ...]]:
    """Sender, flows, arrivals per second, shape."""
    for header in sorted(facts.load.headers, key=lambda header: natural(header.name)):
        shape = dict(header.shape)
        kind = f"{shape.pop('kind', 'constant')} {words.settings(shape)}".strip()
        flows = words.names(header.flows, most=12)
        yield words.clean(header.where, 60), flows, f"{header.arrivals_per_second:,.0f}", kind


def _engines(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """Node, CPU time, share of one CPU over the run."""
    used = cpu_seconds(facts.run.usage)
    for node in sorted(used, key=natural):
        yield words.clean(node, 60), f"{used[node]:.2f} s", words.percent(used[node], facts.run.seconds)


def _steps(facts: Facts) -> Iterator[StepRow]:
    for step in facts.run.plan.steps if facts.run.plan else ():
        yield StepRow(
            step.number,
            words.clean(step.fault, 60),
            f"{step.seconds:g} s",
            words.names(step.pods, "", most=12),
            words.names(step.nodes, "", most=12),
            words.settings(step.parameters),
            (*_operations("inject", step.script.inject), *_operations("heal", step.script.heal)),
        )


def _operations(phase: str, operations: Sequence[Op], most: int = 12) -> list[str]:
    lines = [f"{phase} {op.at:.2f} s  {op.name} {words.settings(op.arguments)}" for op in operations[:most]]
    return lines + ([f"{phase}: {len(operations) - most} more"] if len(operations) > most else [])


def _environment(facts: Facts) -> Iterator[tuple[str, str]]:
    for name, value in msgspec.structs.asdict(facts.run.environment).items():
        yield words.clean(name, 60), words.clean(value)
    yield "load generators", f"{facts.load.cpu_seconds:.1f} s of CPU"
    if facts.run.lab:
        yield "lab", words.settings(msgspec.to_builtins(facts.run.lab))
    if cluster := facts.run.cluster:
        yield "cluster", words.settings({name: getattr(cluster, name) for name in ("context", "namespace", "service")})
    yield "experiment file", words.clean(PurePath(facts.run.experiment.file).name)
