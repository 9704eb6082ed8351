"""Judges cases: the engine's programs go to a tracer, and where asked to a real kernel as well.

    case -> Proxier -> program -> Judge (tracer)   -> outcome of each flow -> Verdict
                              \\-> Judge (kernel)  -> outcome of each flow -/

Both judges are asked the same; a flow has passed when each gives what the case expects.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, Protocol

from engine.config import NEWEST
from engine.kernel.base import Applied, KernelError
from engine.program import Program
from engine.proxier import BACKENDS, Proxier
from harness.namespace import NamespaceError
from harness.trace.asserts import judged_asserts
from harness.trace.cases import Case, Flow, Stage
from harness.trace.packet import Outcome, Tracer

METRIC = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"


class Unavailable(RuntimeError):
    """A mode or kernel that is not to be had here."""


class Witness(Protocol):
    """A second judge: takes programs as a kernel does and sends real packets."""

    def apply(self, program: Program) -> Applied:
        """As `Kernel.apply`."""

    def observe(self, flows: list[Flow]) -> list[dict[str, Any]]:
        """For each flow `outcome` (Outcome) and whatever else was seen."""

    def connect(self, flow: Flow) -> Outcome:
        """One connection, its client remembered."""

    def forget_clients(self) -> None:
        """As if every client had stayed away longer than any affinity lasts."""


class OpenWitness(Protocol):
    """Makes the witness for one case in one mode."""

    def __call__(self, case: Case, mode: str) -> AbstractContextManager[Witness]: ...


class Tracers:
    """A kernel that only feeds tracers, one a family."""

    def __init__(self, mode: str, local: frozenset[bytes]) -> None:
        module = mode_module(mode)
        self._tracers = {family: module.tracer(family, local) for family in (4, 6)}

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
        """What the mode's tracer knows beyond packets."""
        told = getattr(self._tracers[family], "facts", dict)
        return told()


def mode_module(mode: str):
    """`harness.trace.MODE`; Unavailable when this build lacks the mode."""
    if mode not in BACKENDS:
        raise Unavailable(f"mode {mode} has no tracer in this build; there are: {', '.join(sorted(BACKENDS))}")
    return import_module(f"harness.trace.{mode}")


def judge(case: Case, mode: str, open_witness: OpenWitness | None = None, version=NEWEST) -> dict[str, Any]:
    """The case's verdict as JSON: name, mode, passed, flows, asserts; `error` when it could not be judged."""
    verdict: dict[str, Any] = {"name": case.name, "mode": mode, "passed": False, "flows": [], "asserts": []}
    verdict |= {"unread": list(case.unread)} if case.unread else {}
    try:
        with open_witness(case, mode) if open_witness else nullcontext() as witness:
            run = Run(case, mode, witness, version)
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


class Run:
    """One case in one mode, stage after stage."""

    def __init__(self, case: Case, mode: str, witness: Witness | None, version: tuple[int, int]) -> None:
        self._case, self._mode, self._witness = case, mode, witness
        config = case.proxy_config(version)
        self._tracers = Tracers(mode, frozenset(config.local_addresses))
        self._proxier = Proxier(mode, config, self, time.perf_counter, case.node or None)

    def apply(self, program: Program) -> Applied:
        """Every program goes to both judges."""
        if self._witness:
            self._witness.apply(program)
        return self._tracers.apply(program)

    def enter(self, events: tuple[tuple[str, str, bytes], ...]) -> None:
        """Observe the changes and sync."""
        for event in events:
            self._proxier.state.observe(*event)
        self._proxier.sync()

    def flows(self, stage: Stage, number: int) -> Iterator[dict[str, Any]]:
        """Verdicts of the stage's flows."""
        asked = [flow for flow in stage.flows if flow.expected is not None]
        seen = self._witness.observe(asked) if self._witness else [None] * len(asked)
        for flow, observed in zip(asked, seen, strict=True):
            yield self._judged(flow, number, observed)

    def _judged(self, flow: Flow, number: int, observed: dict | None) -> dict[str, Any]:
        trace = self._tracers.of(flow).trace(flow.packet)
        passed = trace.outcome == flow.expected
        found = {"name": flow.name, "stage": number, "passed": passed, "expected": shown(flow.expected)}
        found |= {"actual": shown(trace.outcome), "steps": list(trace.steps)}
        if flow.accepted is not None:
            found["explicit_accept"] = any(step.endswith(("ACCEPT", " accept")) for step in trace.steps)
            found["passed"] &= found["explicit_accept"] == flow.accepted
        if observed is not None:
            outcome = observed.pop("outcome")
            found["kernel"] = {"actual": shown(outcome), "passed": outcome == flow.expected, **observed}
            found["passed"] &= found["kernel"]["passed"]
        return found

    def sequence(self, stage: Stage, number: int) -> Iterator[dict[str, Any]]:
        """Verdicts of connections that follow each other in time (AFF)."""
        previous: dict[str, frozenset] = {}
        last = 0.0
        for place, entry in enumerate(stage.sequence):
            flow, wanted = entry["flow"], entry["expected"]
            if entry["events"]:
                self.enter(entry["events"])
            tracer = self._tracers.of(flow)
            tracer.now = entry["t"]
            possible = tracer.trace(flow.packet).outcome
            taken = {"tracer": (possible.endpoints, tracer.connect(flow.packet, place + 1))}
            if self._witness:
                if wanted == "any" and entry["t"] > last:
                    self._witness.forget_clients()  # real time does not pass: the gap is made by hand
                outcome = self._witness.connect(flow)
                taken["kernel"] = (outcome.endpoints, outcome)
            found = {"name": f"connection {place + 1} at {entry['t']:g} s", "stage": number, "expected": wanted}
            fine = [_as_wanted(entry, ends, previous.get(who)) for who, (ends, _) in taken.items()]
            found |= {who: shown(outcome) for who, (_, outcome) in taken.items() if who != "tracer"}
            yield found | {"passed": all(fine), "actual": shown(possible)}
            previous = {who: outcome.endpoints for who, (_, outcome) in taken.items()}
            last = entry["t"]

    def asserts(self, stage: Stage, number: int) -> list[dict[str, Any]]:
        """Verdicts of what the stage asserts beyond packets."""
        if not stage.asserts:
            return []
        facts: dict[str, Any] = {"martian_firewall_rule": False, "metrics": self._metrics(self._case.families[0])}
        for family in self._case.families:
            for name, told in self._tracers.facts(family).items():
                known = facts.get(name)
                facts[name] = known | told if isinstance(known, dict) else known or told
        return judged_asserts(stage.asserts, facts, self._case.partial, number)

    def _metrics(self, family: int) -> dict[str, float]:
        counts = self._proxier.dataplanes[family].without_local_endpoints(by_service=self._mode == "ipvs")
        return {f'{METRIC}{{traffic_policy="{policy}"}}': count for policy, count in counts.items()}


def _as_wanted(entry: dict, endpoints: frozenset, previous: frozenset | None) -> bool:
    """Whether a connection of a sequence went where the case wants it."""
    wanted, usual = entry["expected"], entry["flow"].expected
    if wanted == "any":
        return bool(endpoints) and (usual is None or endpoints <= usual.endpoints)
    if wanted == "same-as-previous":
        return endpoints == previous
    if wanted in ("different-from-previous", "other"):
        return bool(endpoints) and not endpoints & (previous or frozenset())
    return bool(endpoints) and endpoints <= entry["ends"]


def shown(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a case writes it."""
    ends = [f"{_text(address)}:{port}" for address, port in sorted(outcome.endpoints)]
    return {"outcome": outcome.kind, "endpoints": ends, "masquerade": outcome.masquerade}


def _text(address: bytes) -> str:
    text = str(ipaddress.ip_address(address))
    return f"[{text}]" if len(address) == 16 else text
