"""Runs cases: the engine's programs are given to a tracer and, on request, to a real kernel.

    case -> Proxier -> program -> Judge (tracer)   -> outcome of each flow -> Verdict
                              \\-> Judge (kernel)  -> outcome of each flow -/

Both judges get the same flows; a flow passes if each outcome is the expected one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypedDict

from engine.kernel.interface import Applied, KernelError
from engine.modes import MODES as ENGINE_MODES
from engine.program import Program
from engine.proxier import Proxier
from harness.acceptance.asserts import judged_asserts
from harness.acceptance.cases import Case, CaseStage, TimedConnection
from harness.judge.behaviour import Target, socket_text
from harness.judge.packet import Flow, Outcome, Tracer
from harness.log.events import JsonObject
from harness.modes import MODES, mode_of
from harness.places.namespace import NamespaceError

METRIC = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"


class Unavailable(RuntimeError):
    """A mode or kernel that is not available here."""


class Observer(Protocol):
    """A second judge: applies programs to a kernel and sends real packets."""

    def apply(self, program: Program) -> Applied:
        """As `Kernel.apply`."""

    def observe(self, flows: list[Flow]) -> list[dict[str, Any]]:
        """For each flow its `outcome` (Outcome) and other observations."""

    def connect(self, flow: Flow) -> Outcome:
        """One connection, with its client recorded."""

    def forget_clients(self) -> None:
        """Clear session affinity, as if every client's timeout had expired."""


class OpenObserver(Protocol):
    """Opens the observer for one case in one mode."""

    def __call__(self, case: Case, mode: str) -> AbstractContextManager[Observer]: ...


class Tracers:
    """A kernel that feeds programs to tracers, one per family."""

    def __init__(self, mode: str, local: frozenset[bytes]) -> None:
        self._tracers = {family: tracer_of(mode, family, local) for family in (4, 6)}

    def of(self, flow: Flow) -> Tracer:
        """The tracer of a flow's family."""
        return self.of_family(4 if len(flow.packet.destination) == 4 else 6)

    def of_family(self, family: int) -> Tracer:
        """The tracer of one family."""
        return self._tracers[family]

    def apply(self, program: Program) -> Applied:
        """As `Kernel.apply`."""
        text = program.text()
        self._tracers[program.family].feed(text)
        return Applied(len(text))

    def facts(self, family: int) -> dict[str, Any]:
        """Facts of the mode's tracer beyond packets."""
        return self._tracers[family].facts()


def tracer_of(mode: str, family: int, local: frozenset[bytes]) -> Tracer:
    """The mode's tracer of one family; Unavailable if this build lacks the mode."""
    if mode not in MODES:
        raise Unavailable(f"mode {mode} has no tracer in this build; there are: {', '.join(MODES)}")
    return mode_of(mode).tracer(family, local)


def judge(
    case: Case, mode: str, open_observer: OpenObserver | None = None, version: tuple[int, int] | None = None
) -> dict[str, Any]:
    """The case's verdict as JSON: name, mode, passed, flows, asserts; `error` if it could not be run.

    Without a `version`, in the case's usual one.
    """
    verdict: dict[str, Any] = {"name": case.name, "mode": mode, "passed": False, "flows": [], "asserts": []}
    verdict |= {"unread": list(case.unread)} if case.unread else {}
    try:
        with open_observer(case, mode) if open_observer else nullcontext() as observer:
            run = CaseRun(case, mode, observer, version)
            for number, stage in enumerate(case.stages):
                run.enter(stage.events)
                verdict["flows"] += run.flows(stage, number)
                verdict["flows"] += run.sequence(stage, number)
                verdict["asserts"] += run.asserts(stage, number)
    except (Unavailable, KernelError, NamespaceError, ValueError) as error:
        verdict["error"] = str(error)
        return verdict
    verdict["passed"] = all(item["passed"] for item in verdict["flows"] + verdict["asserts"])
    return verdict


class CaseRun:
    """One case in one mode, stage after stage."""

    def __init__(self, case: Case, mode: str, observer: Observer | None, version: tuple[int, int] | None) -> None:
        self._case, self._mode, self._observer = case, mode, observer
        config = case.proxy_config(version)
        self._tracers = Tracers(mode, frozenset(config.local_addresses))
        self._proxier = Proxier(mode, config, self, time.perf_counter, case.node or None)

    def apply(self, program: Program) -> Applied:
        """Give every program to both judges."""
        if self._observer:
            self._observer.apply(program)
        return self._tracers.apply(program)

    def enter(self, events: tuple[tuple[str, str, bytes], ...]) -> None:
        """Observe the changes and sync."""
        for event in events:
            self._proxier.state.observe(*event)
        self._proxier.sync()

    def flows(self, stage: CaseStage, number: int) -> Iterator[dict[str, Any]]:
        """Verdicts of the stage's flows."""
        asked = [flow for flow in stage.flows if flow.expected is not None]
        seen = self._observer.observe(asked) if self._observer else [None] * len(asked)
        for flow, observed in zip(asked, seen, strict=True):
            yield self._judged(flow, number, observed)

    def _judged(self, flow: Flow, number: int, observed: JsonObject | None) -> dict[str, Any]:
        trace = self._tracers.of(flow).trace(flow.packet)
        passed = trace.outcome == flow.expected
        found: dict[str, Any] = {"name": flow.name, "stage": number, "passed": passed}
        found["expected"] = flow.expected and shown(flow.expected)
        found |= {"actual": shown(trace.outcome), "steps": list(trace.steps)}
        if flow.accepted is not None:
            found["explicit_accept"] = any(step.endswith(("ACCEPT", " accept")) for step in trace.steps)
            found["passed"] &= found["explicit_accept"] == flow.accepted
        if observed is not None:
            outcome = observed.pop("outcome")
            found["kernel"] = {"actual": shown(outcome), "passed": outcome == flow.expected, **observed}
            found["passed"] &= found["kernel"]["passed"]
        return found

    def sequence(self, stage: CaseStage, number: int) -> Iterator[dict[str, Any]]:
        """Verdicts of connections that follow each other in time (AFF)."""
        previous: dict[str, frozenset[Target]] = {}
        last = 0.0
        for place, entry in enumerate(stage.sequence):
            flow, wanted = entry.flow, entry.expected
            if entry.events:
                self.enter(entry.events)
            tracer = self._tracers.of(flow)
            tracer.now = entry.at
            possible = tracer.trace(flow.packet).outcome
            taken = {"tracer": (possible.endpoints, tracer.connect(flow.packet, place + 1))}
            if self._observer:
                if wanted == "any" and entry.at > last:
                    self._observer.forget_clients()  # real time does not pass: the gap is simulated
                outcome = self._observer.connect(flow)
                taken["kernel"] = (outcome.endpoints, outcome)
            found = {"name": f"connection {place + 1} at {entry.at:g} s", "stage": number, "expected": wanted}
            fine = [_as_wanted(entry, ends, previous.get(who)) for who, (ends, _) in taken.items()]
            found |= {who: shown(outcome) for who, (_, outcome) in taken.items() if who != "tracer"}
            yield found | {"passed": all(fine), "actual": shown(possible)}
            previous = {who: outcome.endpoints for who, (_, outcome) in taken.items()}
            last = entry.at

    def asserts(self, stage: CaseStage, number: int) -> list[dict[str, Any]]:
        """Verdicts of the stage's assertions beyond packets."""
        if not stage.asserts:
            return []
        facts: dict[str, Any] = {"martian_firewall_rule": False, "metrics": self._metrics(self._case.families[0])}
        for family in self._case.families:
            for name, fact in self._tracers.facts(family).items():
                known = facts.get(name)
                facts[name] = known | fact if isinstance(known, dict) else known or fact
        return judged_asserts(stage.asserts, facts, self._case.partial, number)

    def _metrics(self, family: int) -> dict[str, float]:
        by_service = ENGINE_MODES[self._mode].counts_services
        counts = self._proxier.dataplanes[family].without_local_endpoints(by_service=by_service)
        return {f'{METRIC}{{traffic_policy="{policy}"}}': count for policy, count in counts.items()}


def _as_wanted(entry: TimedConnection, endpoints: frozenset[Target], previous: frozenset[Target] | None) -> bool:
    """Whether a connection of a sequence reached the expected endpoint."""
    wanted, usual = entry.expected, entry.flow.expected
    if wanted == "any":
        return bool(endpoints) and (usual is None or endpoints <= usual.endpoints)
    if wanted == "same-as-previous":
        return endpoints == previous
    if wanted in ("different-from-previous", "other"):
        return bool(endpoints) and not endpoints & (previous or frozenset())
    return bool(endpoints) and endpoints <= entry.endpoints


class OutcomeFields(TypedDict):
    """An outcome in the form of case files; endpoints are `ADDRESS:PORT`."""

    outcome: str
    endpoints: list[str]
    masquerade: bool


def shown(outcome: Outcome) -> OutcomeFields:
    """An outcome in the form of case files."""
    ends = [socket_text(address, port) for address, port in sorted(outcome.endpoints)]
    return {"outcome": outcome.kind, "endpoints": ends, "masquerade": outcome.masquerade}
