"""A case of the corpus as input of a run: steps of changes and packets, and where it applies.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.server.config.gates import complaint
from harness.acceptance.cases import Case, CaseStage, load, parse
from harness.conformance.corpus import CASES_FOLDER, matrix, rows, rows_intake, rows_ipvs, transitions, twins
from harness.conformance.corpus.clusters import CONFIG
from harness.conformance.corpus.row import Row
from harness.conformance.corpus.transitions import Transition
from harness.judge.packet import Flow

STAND, DRAIN = "stand:", "drain:"
ACROSS_PROTOCOLS = ("HAIR-01", "LB-02", "ITP-01", "TERM-01", "TERM-03")
"""First rules of rows that are also run over UDP and SCTP, in addition to the packet matrix."""
FAMILIES_OF_RULES = {
    "noep": "NOEP", "cip": "CIP", "np": "NP", "etp": "ETP", "itp": "ITP", "term": "TERM", "masq": "MASQ",
    "ipmode": "SVC-07", "badip": "SVC-06", "topo": "TOPO", "hairpin": "HAIR", "aff": "AFF", "eps": "EPS", "svc": "SVC",
    "lb": "LB", "dual": "DS", "ipvs": "IPVS", "ext": "EXT",
}  # fmt: skip
"""The rules that the name of a case file begins with."""


class EntryStep(NamedTuple):
    """Changes, then expectations; `restart`: the proxy is down during the changes.

    `standing` are further packets of open connections by key; `drains` are packets sent from the change on, with the
    time for which some may reach another endpoint.
    """

    events: tuple[tuple[str, str, bytes], ...]
    flows: tuple[Flow, ...]
    standing: tuple[tuple[str, Flow], ...] = ()
    drains: tuple[tuple[float, Flow], ...] = ()
    restart: bool = False


class Entry(NamedTuple):
    """`rules` are those of docs/kube-proxy.md, `source` is the origin of the case."""

    id: str
    name: str
    rules: tuple[str, ...]
    source: str
    case: Case
    steps: tuple[EntryStep, ...]

    def applies(self, mode: str, version: tuple[int, int]) -> str:
        """Why the case does not apply to a mode and version; empty if it does."""
        if mode not in self.case.modes:
            return f"it holds in {', '.join(self.case.modes)}"
        if not self.case.holds_in(version):
            first, last = (".".join(map(str, each)) for each in self.case.versions)
            return f"it holds from {first} on" if version < self.case.versions[0] else f"it holds up to {last}"
        if self.case.settings().detect_local_mode not in DETECTORS:
            return "a proxy does not start with this configuration"
        refused = complaint(self.case.raw.get("featureGates") or {}, version)
        return f"a proxy of this version does not start with it: {refused}" if refused else ""


DETECTORS = ("", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")


def corpus() -> list[Entry]:
    """The whole corpus, in order; ids are unique."""
    found: dict[str, Entry] = {}
    for entry in (*_of_files(CASES_FOLDER), *_of_rows()):
        number = 1
        name = entry.id
        while name in found:
            number += 1
            name = f"{entry.id}-{number}"
        found[name] = entry._replace(id=name)
    return list(found.values())


def _of_files(folder: Path) -> Iterator[Entry]:
    for case in load(folder):
        steps = tuple(step for step in map(_step, case.stages))
        if any(step.flows for step in steps):
            area = FAMILIES_OF_RULES[case.name.partition("-")[0]]
            yield Entry(Path(case.path).stem, case.name, (area,), "a test of kube-proxy", case, steps)


def _of_rows() -> Iterator[Entry]:
    for row in (*rows.ROWS, *(row._replace(modes=("ipvs",)) for row in rows_ipvs.ROWS)):
        yield from _with_twins(row)
    for row in matrix.rows():
        yield from _with_twins(row)
        for each in _across_protocols(row):
            yield from _with_twins(each)
    for transition in transitions.ROWS:
        yield from _of(transition)


def _with_twins(row: Row) -> Iterator[Entry]:
    yield from _of(Transition(row))
    if row.modes != ("ipvs",) and (twin := twins.in_ipv6(row)):
        yield from _of(Transition(twin))
    if row.ids.split()[0] in ACROSS_PROTOCOLS and row not in rows_intake.ROWS:
        for each in _across_protocols(row):
            yield from _of(Transition(each))


def _across_protocols(row: Row) -> Iterator[Row]:
    for protocol in ("UDP", "SCTP"):
        if row.modes != ("ipvs",) and (twin := twins.over(row, protocol)):
            yield twin


def _of(transition: Transition) -> Iterator[Entry]:
    row = transition.row
    name = f"{row.ids.split()[0]} {row.name}"
    key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    case = parse(Path(key), written(row))
    steps = [_step(stage) for stage in case.stages]
    steps = [step._replace(restart=number in transition.restarts) for number, step in enumerate(steps)]
    if any(step.flows or step.standing for step in steps):
        yield Entry(key, row.name, tuple(row.ids.split()), "docs/kube-proxy.md", case, tuple(steps))


def written(row: Row) -> dict[str, Any]:
    """A row in the form of a case file."""
    then = [{"ops": ops, "flows": flows} for ops, flows in row.then]
    config = CONFIG | {"modes": list(row.modes)} | row.config
    found: dict[str, Any] = {
        "name": row.name,
        "config": config,
        "objects": row.objects,
        "flows": row.flows,
        "then": then,
    }
    more = {"asserts": row.asserts, "min_version": row.first, "max_version": row.last}
    return found | {key: value for key, value in more.items() if value}


def _step(stage: CaseStage) -> EntryStep:
    flows = [flow for flow in stage.flows if flow.expected is not None]
    plain = tuple(flow for flow in flows if not flow.name.startswith((STAND, DRAIN)))
    standing = tuple((flow.name.removeprefix(STAND), flow) for flow in flows if flow.name.startswith(STAND))
    drains = tuple((float(flow.name.removeprefix(DRAIN)), flow) for flow in flows if flow.name.startswith(DRAIN))
    return EntryStep(stage.events, plain, standing, drains)


def chosen(entries: Iterable[Entry], names: Iterable[str]) -> list[Entry]:
    """Cases selected by id or rule, or all; LookupError for an unknown name."""
    entries, wanted = list(entries), list(names)
    if not wanted:
        return entries
    for name in wanted:
        if not any(name == entry.id or name in entry.rules for entry in entries):
            raise LookupError(f"{name!r} is neither a case nor a rule that a case is about")
    return [entry for entry in entries if entry.id in wanted or set(wanted).intersection(entry.rules)]
