"""Runs all cases, configuration by configuration, and builds the result of a run."""

from __future__ import annotations

import json
import platform
import shlex
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from engine.kernel.interface import KernelError
from harness.conformance.entry import Entry
from harness.conformance.result import (
    FAILED,
    NOT_APPLICABLE,
    STATES,
    ConformanceResult,
    Counts,
    RuleCounts,
    UnmetExpectation,
    WrittenCase,
)
from harness.conformance.testbed import CaseResult, Testbed
from harness.kube.proxy import OURS, Command
from harness.log.events import Event, JsonObject
from harness.modes import mode_of
from harness.places.namespace import Namespace, NamespaceError
from harness.places.place import Place

HOPELESS = 3
"""After so many consecutive cases, or first configurations, without an applied change, the rest fails without a run."""


class Unavailable(RuntimeError):
    """No case can be run here; the message states why."""


@dataclass(frozen=True)
class ProxyUnderTest:
    """The proxy under test, its mode, and the reference version of kube-proxy; `asked` are the command's options."""

    command: Command
    mode: str
    version: tuple[int, int]
    variant: str | None
    asked: tuple[str, ...]

    def replay(self, entry: Entry) -> str:
        """The command that repeats one case."""
        which = (
            ("--fuzz", "1", "--seed", entry.id.removeprefix("seed-")) if "FUZZ" in entry.rules else ("--case", entry.id)
        )
        return shlex.join(["harness", "conformance", *self.asked, *which])


def require(mode: str) -> None:
    """Raises Unavailable if the kernel lacks the mode, or no namespace is available."""
    asked = mode_of(mode)
    try:
        with Namespace(user=asked.user_namespace) as namespace:
            why = asked.missing(Place("netns", namespace.socket, namespace.run))
    except NamespaceError as error:
        raise Unavailable(str(error)) from None
    if why:
        raise Unavailable(f"{why}; a kernel that has it: --kernel vm")


def run(
    target: ProxyUnderTest, entries: Iterable[Entry], report: Callable[[CaseResult], None] = lambda _: None
) -> list[CaseResult]:
    """One result per case, in order; Unavailable if no place can be created for a proxy."""
    entries = list(entries)
    found: dict[str, CaseResult] = {}
    tried = []
    for entry in entries:
        if why := entry.applies(target.mode, target.version):
            found[entry.id] = CaseResult(entry, NOT_APPLICABLE, why)
        else:
            tried.append(entry)
    for result in _tried(target, tried):
        found[result.entry.id] = result
        report(result)
    return [found[entry.id] for entry in entries]


def _tried(target: ProxyUnderTest, entries: list[Entry]) -> Iterator[CaseResult]:
    """Run one proxy after another; if the first ones apply no change at all, the others are not started."""
    lost = 0
    for _, group in groupby(sorted(entries, key=_configuration), _configuration):
        some = list(group)
        if lost >= HOPELESS:
            yield from (
                not_tried(entry, f"the proxy followed nothing under {HOPELESS} configurations") for entry in some
            )
            continue
        try:
            with Testbed(target.command, target.mode, some[0].case, target.variant, _version(target)) as testbed:
                followed = yield from _on(testbed, some)
        except (NamespaceError, KernelError, OSError) as error:
            raise Unavailable(str(error)) from None
        lost = -1 if followed or lost < 0 else lost + 1


def _on(testbed: Testbed, entries: list[Entry]) -> Generator[CaseResult, None, bool]:
    """Results of one configuration's cases, and whether the proxy applied any change."""
    hopeless, followed = 0, False
    for entry in entries:
        if hopeless >= HOPELESS:
            yield not_tried(entry, f"the proxy followed nothing in {HOPELESS} cases in a row")
            continue
        result = testbed.run(entry)
        unfollowed = any(not each.packet for each in result.failures)
        hopeless = hopeless + 1 if unfollowed else 0
        followed |= not unfollowed
        yield result
    return followed


def not_tried(entry: Entry, why: str) -> CaseResult:
    """The result of a case that was not run."""
    return CaseResult(entry, FAILED, why, 0.0, [UnmetExpectation(0, "", "the case is tried", f"not tried: {why}")])


def _configuration(entry: Entry) -> str:
    """Key of the configurations that share a proxy."""
    raw = entry.case.raw.items()
    given = {key: value for key, value in raw if key not in ("modes", "ipFamily") and value not in (None, "", [], {})}
    return json.dumps([entry.case.node, given], sort_keys=True)


def _version(target: ProxyUnderTest) -> str:
    return f"v{target.version[0]}.{target.version[1]}.0"


def result_of(target: ProxyUnderTest, results: list[CaseResult], seconds: float) -> ConformanceResult:
    """The result of a run that took that long."""
    counts = Counts(*_by_state(result.state for result in results))
    return ConformanceResult(
        proxy=target.command.name,
        command=list(target.command.words) if target.command is not OURS else None,
        mode=target.mode,
        kube_version=".".join(map(str, target.version)),
        kernel=platform.release(),
        began=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds)),
        seconds=seconds,
        counts=counts,
        passed=counts.failed == 0 and counts.passed > 0,
        rules=rules_of(results),
        cases=[_case(target, result) for result in results],
    )


def rules_of(results: list[CaseResult]) -> list[RuleCounts]:
    """By rule, how many of its cases passed, failed, and do not apply."""
    states: dict[str, list[str]] = {}
    for result in results:
        for rule in result.entry.rules:
            states.setdefault(rule, []).append(result.state)
    return [RuleCounts(rule, *_by_state(found)) for rule, found in sorted(states.items())]


def _by_state(states: Iterable[str]) -> list[int]:
    counts = Counter(states)
    return [counts[state] for state in STATES]


def _case(target: ProxyUnderTest, result: CaseResult) -> WrittenCase:
    entry = result.entry
    return WrittenCase(
        id=entry.id,
        name=entry.name,
        rules=list(entry.rules),
        source=entry.source,
        state=result.state,
        why=result.why,
        seconds=result.seconds,
        failures=result.failures,
        events=None if result.events is None else list(_events(result.events)),
        replay=target.replay(entry),
    )


def _events(events: list[Event]) -> Iterator[JsonObject]:
    """Steps as objects, numbered as in failures."""
    for number, (_, group) in enumerate(groupby(events, lambda event: event.t)):
        for event in group:
            about = {"step": number, "type": event.type, "resource": event.resource}
            yield about | {"object": json.loads(bytes(event.object))}
