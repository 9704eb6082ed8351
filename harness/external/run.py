"""Measures one proxy with one recording."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from engine.config import NEWEST
from engine.kernel.interface import KernelError
from harness.apiserver.pace import add_service_cidrs, fold
from harness.exit_codes import EXIT_FAILED, EXIT_UNVERIFIED
from harness.external.history import ExpectedHistory
from harness.external.measurement import Figures, Measurement
from harness.external.stage import ProxyEnvironment
from harness.judge.oracle import Settings
from harness.kube.proxy import Command
from harness.log import open_source
from harness.log.initial import initial_part
from harness.log.node_names import NodeNames
from harness.log.window import Window
from harness.modes import mode_of
from harness.places.namespace import NamespaceError
from harness.places.place import Place
from harness.places.world import MASQUERADE_ADDRESSES
from harness.replay.compare.result import OutsideChange, OutsideResult, OutsideRun
from harness.replay.schedule import batches

CODES = {"": 0, "wrong": EXIT_UNVERIFIED, "never converged": EXIT_UNVERIFIED, "crashed": EXIT_FAILED}
NOT_AVAILABLE = "not available"
MOST_LINES = 40


@dataclass(frozen=True)
class ExternalOptions:
    """Options as for a replay; the first sync may take `give_up_seconds`, and a change a tenth of that.

    At the end the proxy is started again `restarts` times.
    """

    node: str | None = None
    cluster_cidr: str | None = None
    window: Window = Window()
    min_sync_period: int = 1_000_000_000
    version: tuple[int, int] = NEWEST
    variant: str | None = None
    give_up_seconds: float = 120.0
    restarts: int = 0


class ExternalFacts(NamedTuple):
    """The node whose view was taken, the number of Services at the end, and the kernel's kind and release."""

    node: str
    services: int
    kernel: dict[str, str]


def run(
    source: str, command: Command, mode: str, options: ExternalOptions, progress: Callable[[str], None] = lambda _: None
) -> OutsideRun:
    """RecordingError for bad input; errors of the proxy are part of the result."""
    words = list(command.words)
    try:
        facts, figures = measured(source, command, mode, options, progress)
    except (NamespaceError, KernelError, OSError) as error:
        return OutsideRun(command.name, mode, words, EXIT_FAILED, NOT_AVAILABLE, str(error), None)
    code, state = CODES[figures.state], figures.state or "verified"
    return OutsideRun(command.name, mode, words, code, state, figures.reason, _result(facts, figures))


def measured(
    source: str, command: Command, mode: str, options: ExternalOptions, progress: Callable[[str], None] = lambda _: None
) -> tuple[ExternalFacts, Figures]:
    """Facts about the run, and its figures; RecordingError, NamespaceError, KernelError, OSError."""
    with open_source(source) as recording:
        cluster = recording.header.cluster
        cidr = options.cluster_cidr or cluster.get("clusterCIDR") or ""
        settings = Settings(
            cluster_cidr=cidr, service_cidrs=tuple(cluster.get("serviceCIDRs") or ()), version=options.version
        )
        nodes, history = NodeNames(source), ExpectedHistory(options.node, settings)
        events = iter(recording)
        awaited = frozenset({"nodes"}).intersection(recording.header.resources)
        walk, rest = initial_part(events, options.window, awaited)
        initial = []
        for event in walk:
            initial.append(event)
            nodes.observe(event)
            history.observe(event)
        nodes.require(options.node)
        node = history.whole.node_name or "node"
        history.settle(MASQUERADE_ADDRESSES)
        fields = {"clusterCIDR": cidr}
        version = f"v{options.version[0]}.{options.version[1]}.0"
        with ProxyEnvironment(command, mode, node, fields, options.variant, version=version) as stage:
            _require(mode, stage)
            for event in initial:
                fold(stage.api.store, event, ordered=False)
            add_service_cidrs(stage.api.store, cluster.get("serviceCIDRs"))
            stage.api.store.forget()
            measurement = Measurement(stage, history, options.give_up_seconds, progress, options.restarts)
            figures = measurement.run(batches(rest, events, options.window, options.min_sync_period))
            kernel = {"kind": "netns", "release": platform.release()}
        return ExternalFacts(node, _count(history, "services"), kernel), figures


def _require(mode: str, stage: ProxyEnvironment) -> None:
    """KernelError where the namespace's kernel lacks the mode."""
    node = stage.world.node
    if why := mode_of(mode).missing(Place("netns", node.socket, node.run)):
        raise KernelError(f"{why}; a kernel that has it: --kernel vm")


def _count(history: ExpectedHistory, resource: str) -> int:
    return len(list(history.whole.manifests(resource)))


def _result(facts: ExternalFacts, figures: Figures) -> OutsideResult:
    return OutsideResult(
        node=facts.node,
        services=facts.services,
        kernel=facts.kernel,
        verified=not figures.state,
        first_sync_seconds=figures.first_seconds,
        rules=figures.size.rules if figures.size else None,
        elements=figures.size.elements if figures.size else None,
        change=OutsideChange(
            count=figures.latency.count,
            not_counted=figures.not_counted,
            unseen=figures.unseen,
            unsettled=figures.unsettled,
            missed=figures.missed_count,
            latency_seconds=figures.latency.summary(),
            by_kind={
                kind: {"count": found.count, **(found.summary() or {})}
                for kind, found in sorted(figures.by_kind.items())
            },
            clocks=dict(figures.clocks),
        ),
        missed=figures.missed[:MOST_LINES],
        wrong=figures.wrong[:MOST_LINES],
        packets=dict(figures.packets),
        cpu_seconds=figures.cpu,
        peak_memory_bytes=figures.peak_bytes,
        own_metrics=figures.own,
    )
