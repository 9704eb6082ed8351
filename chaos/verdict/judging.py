"""Evaluates each objective; the verdict is false if one is false, else unknown if one is unknown, else true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from chaos.objectives import FaultObjectives
from chaos.run_facts import KafkaFacts
from chaos.verdict import engines, following, journal, losses
from chaos.verdict.end_reason import read_reason
from chaos.verdict.facts import Facts, FactsError, Load, LostRequest, has_facts, read_facts
from chaos.verdict.findings import Finding, findings, trouble_of, unchanged
from chaos.verdict.words import WORDS, Judgement
from harness.wording import plural

PERCENTILES = (50, 90, 99, 99.9)
MOST_LATE = 0.01
"""The share of requests that may be sent late; beyond it a run proves nothing."""


class Verdict(msgspec.Struct):
    """The verdict on a run.  `problems` are reasons, independent of the objectives, why it cannot be true.

    `latency_us` covers all answered requests, from when each was due; `engine_cpu_share` is the share of the machine's
    CPU time used by all nodes' engines.  docs/chaos-report.md describes the JSON form field by field.
    """

    value: bool | None
    judgements: list[Judgement] = []
    problems: list[str] = []
    findings: list[Finding] = []
    sent: int = 0
    lost: int = 0
    lost_outside_faults: int = 0
    not_sent: int = 0
    latency_us: dict[str, int | None] = {}
    engine_cpu_share: float | None = None
    experiment: str = ""
    seed: int | None = None
    mode: str = ""
    skipped: list[str] = []
    version: int = 1

    @property
    def word(self) -> str:
        """true, false or unknown."""
        return WORDS[self.value]

    def summary(self) -> str:
        """A short summary for a terminal."""
        lines = [f"verdict: {self.word.upper()}: {self.lost:,} of {plural(self.sent, 'request')} lost"]
        for judgement in self.judgements:
            mark = {True: "ok  ", False: "FAIL", None: "?   "}[judgement.value]
            reason = f" ({judgement.reason})" if judgement.reason else ""
            lines.append(f"  {mark} {judgement.objective}: {judgement.measured}, threshold {judgement.wanted}{reason}")
            lines += [f"         from {judgement.source}"] if judgement.source else []
        untouched = [(f, result) for f in self.findings if (result := unchanged(f))]
        lines += [f"       {finding.number}. {finding.fault}: {result}" for finding, result in untouched]
        return "\n".join(
            [*lines, *(f"  ?    {problem}" for problem in self.problems), *(f"  SKIPPED {why}" for why in self.skipped)]
        )


def judge(folder: Path) -> Verdict:
    """The verdict on a run's folder; unknown if the run left no facts."""
    try:
        facts = read_facts(folder)
    except (FactsError, ValueError) as error:
        reason = read_reason(folder)
        # A run that could not begin, or was interrupted before it did, has written none: its reason suffices.
        problems = [str(error)] if not reason else [reason] if not has_facts(folder) else [reason, str(error)]
        return Verdict(None, problems=problems, experiment=_title(folder))
    return judge_facts(facts)


def _title(folder: Path) -> str:
    """The experiment's, by the journal; "" without one."""
    try:
        return str(((journal.read_journal(folder) or {}).get("experiment") or {}).get("title") or "")
    except (ValueError, AttributeError):
        return ""


def judge_facts(facts: Facts) -> Verdict:
    """Like `judge`, from facts."""
    found, unassigned = findings(facts)
    judgements = list(_judgements(facts, found, unassigned))
    problems = list(_problems(facts, found))
    if not any(judged.objective for judged in judgements if not judged.objective.startswith("hypothesis: ")):
        problems.append("no objective was requested")
    values = [judgement.value for judgement in judgements]
    value = False if False in values else None if problems or None in values else True
    run, load = facts.run, facts.load
    latency = {f"p{percentile:g}".replace(".", ""): load.latency_us(percentile) for percentile in PERCENTILES}
    used = engines.cpu_seconds(run.usage)
    cpu_seconds = (run.usage[-1].at - run.usage[0].at) * (run.environment.cpus or 1) if used else 0
    return Verdict(
        value, judgements, problems, found, load.sent, load.failed, len(unassigned), load.not_sent, latency,
        sum(used.values()) / cpu_seconds if cpu_seconds else None,
        run.experiment.title, run.seed, run.mode, skipped=list(run.skipped.values()),
    )  # fmt: skip


def _problems(facts: Facts, found: list[Finding]) -> Iterator[str]:
    """The reasons why the run, or a part of it, proves nothing."""
    if not facts.run.finished:
        reason = read_reason(facts.folder)
        yield "the experiment did not run to its end" + (f": {reason}" if reason else "")
    planned = len(facts.run.plan.steps) if facts.run.plan else 0
    planned -= len(facts.run.skipped)
    if len(found) < planned:
        yield f"only {len(found)} of {plural(planned, 'fault')} tried"
    for finding in found:
        if trouble := trouble_of(finding):
            why = "; ".join(finding.errors) or ("no evidence that it was in force" if not finding.injected else "")
            yield f"{finding.number}. {finding.fault}: {trouble}" + (f": {why}" if why else "")
    yield from facts.run.troubles
    if facts.journal is not None:
        yield from journal.failed(facts.journal)
    elif facts.run.journal:
        yield f"{journal.JOURNAL} is missing: the results of the experiment's own activities are not known"
    yield from facts.load.incomplete
    if facts.load.sent == 0:
        yield "no request was sent"
    yield from held_up(facts.load)


def held_up(load: Load) -> Iterator[str]:
    """The reasons why the load generators' logs do not show what a user would have seen."""
    if load.vanished:
        yield f"{plural(load.vanished, 'request')} due, with no outcome in the log"
    if load.not_sent:
        yield f"{plural(load.not_sent, 'request')} due but not sent: the load generator fell behind"
    if load.late > MOST_LATE * load.sent:
        share = 100 * load.late / load.sent
        yield f"{share:.1f} % of requests were sent late: the load generator fell behind, which may hide losses"


def _judgements(facts: Facts, found: list[Finding], outside: list[LostRequest]) -> Iterator[Judgement]:
    objectives, load = facts.run.objectives, facts.load
    if facts.journal is not None and (held := journal.hypothesis(facts.journal)):
        yield held
    sent = f"{plural(load.sent, 'request')} sent, by the load generators' logs; none excluded"
    if objectives.error_budget_percent is not None:
        share = 100 * load.failed / load.sent if load.sent else None
        limit = objectives.error_budget_percent
        yield _at_most("error budget", share, limit, "{:.2f} % of requests", "nothing was sent", sent)
    if objectives.max_lost_requests is not None:
        failed = load.failed if load.sent else None
        yield _at_most("requests lost", failed, objectives.max_lost_requests, "{:,.0f}", "nothing was sent", sent)
    if objectives.latency_p99_ms is not None:
        p99_us = load.latency_us(99)
        p99 = None if p99_us is None else p99_us / 1000
        answered = f"{load.sent - load.failed:,} answers, from when each was due; excluded {load.failed:,} lost"
        yield _at_most("latency p99", p99, objectives.latency_p99_ms, "{:.1f} ms", "nothing was answered", answered)
    if objectives.node_convergence_seconds is not None:
        yield following.convergence(facts)
        if (paced := following.pacing(facts)) is not None:
            yield paced
        yield from filter(None, (following.rewriting(facts), following.returning(facts)))
    about_losses = list(losses.judged(facts, found, outside))
    if objectives.failures_after_convergence is not None:
        about_losses.insert(0, _late(facts, found, objectives.failures_after_convergence))
    doubtful = next(held_up(load), None) is not None
    yield from map(_doubted, about_losses) if doubtful else about_losses
    if objectives.kernels_as_the_api_says:
        yield _kernels(facts, found)
    yield from engines.judged(facts)
    if facts.run.kafka:
        yield _log_on_kafka(facts.run.kafka)
    for name, wanted in objectives.faults.items():
        yield from _of_fault(name, wanted, [f for f in found if f.fault == name], load.sent)


def _at_most(name: str, measured: float | None, limit: float, form: str, why_unknown: str, source: str) -> Judgement:
    wanted = f"at most {form.format(limit)}"
    if measured is None:
        return Judgement(name, None, wanted, "nothing", why_unknown, source)
    return Judgement(name, measured <= limit, wanted, form.format(measured), "", source)


def _doubted(judgement: Judgement) -> Judgement:
    """If the load generator fell behind, requests that it counts as lost may have been answered in time."""
    if judgement.value is not False:
        return judgement
    return msgspec.structs.replace(judgement, value=None, reason="the load generator fell behind")


def _late(facts: Facts, found: list[Finding], limit: int) -> Judgement:
    wanted = f"at most {limit}"
    counted = [f.lost_after_convergence for f in found if f.lost_after_convergence is not None]
    source = f"the {len(counted)} of {plural(len(found), 'fault')} after which every kernel removed a pod"
    if not counted:
        why = facts.run.unseen or "no fault was followed by every kernel"
        return Judgement("lost after convergence", None, wanted, "nothing", why, source)
    return Judgement("lost after convergence", sum(counted) <= limit, wanted, str(sum(counted)), "", source)


def _kernels(facts: Facts, found: list[Finding]) -> Judgement:
    """Each node's complete kernel state, before the first fault, after each, and at the end."""
    wanted = "consistent with the API"
    looks = [("before the first fault", facts.run.kernels_before)]
    looks += [(f"after {f.number}. {f.fault}", f.kernels_differ) for f in found]
    looks += [("at the end", facts.run.kernels_after)] if facts.run.kernels_after is not msgspec.UNSET else []
    seen = [(when, differences) for when, differences in looks if differences is not None]
    source = f"{len(seen)} of {plural(len(looks), 'check')} of every node: kernel readback against the oracle"
    wrong = [f"{node} {when}: {lines[0]}" for when, differences in seen for node, lines in differences.items() if lines]
    if wrong:
        return Judgement("kernels", False, wanted, "; ".join(wrong[:3])[:600], "", source)
    if len(seen) < len(looks):
        why = facts.run.unseen or "not every check could be made"
        return Judgement("kernels", None, wanted, "no differences where checked", why, source)
    return Judgement("kernels", True, wanted, "all are", "", source)


def _log_on_kafka(kafka: KafkaFacts) -> Judgement:
    """A history with a lost or duplicate event is false, whatever the other results."""
    measured = plural(kafka.events, "event") if kafka.complete else "they differ"
    wanted = "the topic equals the file"
    return Judgement("event log on Kafka", kafka.complete, wanted, measured, kafka.error)


def _of_fault(name: str, wanted: FaultObjectives, found: list[Finding], sent: int) -> Iterator[Judgement]:
    if not found:
        yield Judgement(name, None, "to be injected", "nothing", "the run had no such fault")
        return
    if wanted.max_lost_requests is not None:
        lost = sum(f.lost for f in found) if sent else None
        source = f"lost in the time of {plural(len(found), 'such fault')}"
        limit = wanted.max_lost_requests
        yield _at_most(f"{name}: requests lost", lost, limit, "{:,.0f}", "nothing was sent", source)
    if wanted.readiness_lost_seconds is not None:
        least, most = wanted.readiness_lost_seconds
        times = [f.readiness_lost_seconds for f in found]
        known = [time for time in times if time is not None]
        within = all(least <= time <= most for time in known) if len(known) == len(times) else None
        measured = ", ".join("never" if time is None else f"{time:.2f} s" for time in times)
        reason = "a pod never lost its readiness" if within is None else ""
        yield Judgement(f"{name}: readiness lost after", within, f"{least:g} to {most:g} s", measured, reason)
