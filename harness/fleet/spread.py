"""Spreads the work over processes and machines with Dask: a local cluster, or the scheduler at an address.

    read_tape ──┬► prepared (one per scenario) ─┬► share, share, share ... ──► added up here, each node once
                └► measured: the cost of a sync ┘

The graph is all that Dask knows.  A worker that dies takes nothing with it but time: Dask computes what it held again,
from the source if need be, and a share counts when it has arrived.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from harness.failure import Failure
from harness.fleet.cost import Cost
from harness.fleet.scenario import Scenario
from harness.fleet.share import AffectedNodes, Share
from harness.fleet.stage import FleetSettings, PreparedScenario, staged
from harness.fleet.tape import Tape, read_tape
from harness.fleet.work import measured, prepared, share
from harness.log.window import Window
from harness.temporary import temporary_folder
from harness.wording import plural

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS, WORKER_SECONDS, POLL_SECONDS = 10.0, 60.0, 2.0
"""Time limits to reach a scheduler and to wait for a worker, and the interval of checks."""
PIECES_A_WORKER, PIECES_ALONE, MOST_NODES_A_PIECE = 8, 50, 50
Progress = Callable[[str, int, int], None]
"""Receives the step, how much of it is done, and the total."""
Given = TypeVar("Given")


class FleetError(Failure, RuntimeError):
    """The distributed part failed; the message names a solution."""


class FleetWork(NamedTuple):
    """The work: the views of `nodes` (called with the recorded ones), in each scenario."""

    source: str
    window: Window
    settings: FleetSettings
    scenarios: Sequence[Scenario]
    nodes: Callable[[Sequence[str]], list[str]]


@dataclass
class Done:
    """The sums by scenario, in order, with their shared part, and the processes that computed them."""

    tape: Tape
    nodes: list[str]
    stages: list[PreparedScenario] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)
    engine: str = "none"
    workers: int = 1
    lost: int = 0
    views_seconds: float = 0.0


def in_this_process(asked: FleetWork, progress: Progress) -> Done:
    """Compute everything without Dask."""
    progress("reading the recording", 0, 0)
    tape = read_tape(asked.source, asked.window, asked.settings.version)
    progress("preparing what all nodes share", 0, 0)
    done = _begun(asked, tape, measured(tape, asked.scenarios[0], asked.settings))
    pieces, counted, started = _pieces(done.nodes, PIECES_ALONE), 0, time.perf_counter()
    for stage, total in zip(done.stages, done.shares, strict=True):
        ready = prepared(tape, stage.scenario, asked.settings)
        for piece in pieces:
            total.add(share(ready, stage.cost, piece))
            counted += len(piece)
            progress("views", counted, len(done.nodes) * len(done.stages))
    done.views_seconds = time.perf_counter() - started
    return done


def spread(asked: FleetWork, client: Client, progress: Progress) -> Done:
    """Compute everything on the workers of a Dask client; their exceptions are raised here."""
    began, submit = _workers(client), client.submit
    progress("reading the recording", 0, 0)
    there = submit(read_tape, asked.source, asked.window, asked.settings.version, pure=False)
    tape = _arrived(client, [there])[0].result()
    progress("preparing what all nodes share", 0, 0)
    cost = submit(measured, there, asked.scenarios[0], asked.settings, pure=False)
    ready = [submit(prepared, there, scenario, asked.settings, pure=False) for scenario in asked.scenarios]
    nodes = asked.nodes(list(tape.nodes))
    place, size = {}, {}
    for number, each in enumerate(ready):
        for piece in _pieces(nodes, len(began) * PIECES_A_WORKER):
            future = submit(share, each, cost, piece, pure=False)
            place[future], size[future] = number, len(piece)
    done = _begun(asked, tape, _arrived(client, [cost])[0].result())
    started = time.perf_counter()
    _collect(client, place, size, done, progress)
    done.engine, done.workers, done.lost = "dask", len(began), len(began - _workers(client))
    done.views_seconds = time.perf_counter() - started
    return done


def _begun(asked: FleetWork, tape: Tape, cost: Cost) -> Done:
    """The state before any view has been counted."""
    stages = [replace(staged(tape, scenario, asked.settings), cost=cost) for scenario in asked.scenarios]
    shares = [Share(AffectedNodes.of(len(stage.times))) for stage in stages]
    return Done(tape, asked.nodes(list(tape.nodes)), stages, shares)


def _collect(
    client: Client, place: dict[Future[Share], int], size: dict[Future[Share], int], done: Done, progress: Progress
) -> None:
    """Add each share as it arrives; ValueError if a node would count twice."""
    waiting, counted, total = set(place), 0, sum(size.values())
    while waiting:
        for future in _arrived(client, list(waiting)):
            done.shares[place[future]].add(future.result())
            waiting.discard(future)
            counted += size[future]
            future.release()
        progress("views", counted, total)


def _arrived(client: Client, futures: list[Future[Given]]) -> list[Future[Given]]:
    """Wait for at least one finished future; FleetError if there is no worker for too long."""
    from distributed import wait

    alone_since = None
    while True:
        with contextlib.suppress(TimeoutError):
            return list(wait(futures, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done)
        if client.status != "running":
            raise FleetError("the connection to the Dask scheduler was lost; the views are not complete")
        alone_since = None if _workers(client) else alone_since or time.monotonic()
        if alone_since and time.monotonic() - alone_since > WORKER_SECONDS:
            raise FleetError(f"no Dask worker for {WORKER_SECONDS:g} s; start some, and run this again")


def _workers(client: Client) -> set[str]:
    return set(client.scheduler_info(n_workers=-1)["workers"])


def _pieces(nodes: list[str], wanted: int) -> list[list[str]]:
    """Runs of consecutive nodes, about as many as requested, none of them too long."""
    long = max(1, min(MOST_NODES_A_PIECE, -(-len(nodes) // max(1, wanted))))
    return [nodes[first : first + long] for first in range(0, len(nodes), long)]


@contextlib.contextmanager
def local_client(workers: int) -> Iterator[Client]:
    """A client of worker processes on this machine, which end with it."""
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("fleet"))
        stack.enter_context(dask.config.set({"distributed.admin.log-format": "%(message)s"}))
        cluster = stack.enter_context(
            LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
                local_directory=str(folder), silence_logs=logging.CRITICAL, memory_limit=0,
            )
        )  # fmt: skip
        yield stack.enter_context(Client(cluster))


@contextlib.contextmanager
def remote_client(address: str) -> Iterator[Client]:
    """A client of the scheduler at an address; FleetError if it cannot be reached or has no worker."""
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise FleetError(f"--scheduler {address}: cannot be reached: {error or type(error).__name__}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError:
            raise FleetError(f"--scheduler {address}: it has had no worker for {WORKER_SECONDS:g} s") from None
        yield client


def cores() -> int:
    """Worker processes on this machine by default: one per core that this process may use."""
    return len(os.sched_getaffinity(0))


def complete(done: Done) -> None:
    """FleetError unless every node counts exactly once in every scenario."""
    for scenario, found in zip(done.stages, done.shares, strict=True):
        counted = {each.node for each in found.nodes}
        if missing := [node for node in done.nodes if node not in counted]:
            raise FleetError(f"{scenario.scenario.name}: {plural(len(missing), 'view')} missing: {missing[0]}, ...")
