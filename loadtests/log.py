"""Writes a load log as JSON lines: each second once it is complete, and failed requests with their endpoints."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from harness.lab.answers import FlowEndpoint, FlowQuery
from loadtests.spec import Spec
from loadtests.tally import Tally

SETTLING_NS = 250_000_000
"""Minimum age of a failure before its endpoint is queried: the nodes must have been notified of the flow."""
LOOKED_UP_AT_ONCE = 200
"""Maximum number of failures per flush whose endpoint is queried; the others are written without one."""


class FailedRequest(NamedTuple):
    """A failed request to be logged; times in nanoseconds of CLOCK_MONOTONIC."""

    flow: str
    protocol: str
    at_ns: int
    ended_ns: int
    cause: str
    via: str
    address: str
    port: int
    node: str
    pod: str
    source: tuple[str, int] | None
    since_ns: int | None = None
    """A time before the flow began, if the request has a flow of its own."""


Ask = Callable[[list[FlowQuery]], Sequence[FlowEndpoint | None]]
"""Returns the endpoint of each flow, None if unknown."""


class LoadLog:
    """`ask` queries the endpoints of failed requests; without it they are not known."""

    def __init__(self, path: str, spec: Spec, tally: Tally, ask: Ask | None = None) -> None:
        self._file = open(path, "w", buffering=1)
        self._spec, self._tally, self._ask = spec, tally, ask
        self._failures: list[FailedRequest] = []
        self._write(
            kind="header", version=1, name=spec.name, where=spec.where, flows=spec.flows,
            arrivals_per_second=spec.arrivals_per_second, shape=spec.shape, seed=spec.seed,
            began_monotonic_ns=time.monotonic_ns(),
        )  # fmt: skip

    def failure(self, failure: FailedRequest) -> None:
        """Keep it for the next `flush`."""
        self._failures.append(failure)

    def flush(self, everything: bool = False) -> None:
        """Write failures, and the seconds whose requests have all been answered or timed out."""
        before_ns = time.monotonic_ns() - (0 if everything else SETTLING_NS)
        failures = [failure for failure in self._failures if failure.ended_ns <= before_ns]
        self._failures = [failure for failure in self._failures if failure.ended_ns > before_ns]
        for failure, found in zip(failures, self._endpoints(failures), strict=True):
            node, pod = (found.node, found.pod) if found else ("", None)
            self._write(
                kind="failure", at_ns=failure.at_ns, ended_ns=failure.ended_ns, flow=failure.flow, cause=failure.cause,
                via=failure.via, node=node or failure.node or None, endpoint=found.endpoint if found else None,
                pod=pod or failure.pod or None, **({"older": True} if found and found.older else {}),
            )  # fmt: skip
        patience_ns = 0 if everything else int((self._spec.timeout_seconds * 2 + 1) * 1e9)
        for row in self._tally.rows(time.monotonic_ns() - patience_ns + (10**10 if everything else 0)):
            self._write(**row)

    def _endpoints(self, failures: list[FailedRequest]) -> list[FlowEndpoint | None]:
        known: list[FlowEndpoint | None] = [None] * len(failures)
        unknown = ((n, (f, f.source)) for n, f in enumerate(failures) if f.source and not f.pod)
        asked = dict(islice(unknown, LOOKED_UP_AT_ONCE))
        if self._ask and asked:
            flows = [
                FlowQuery(f.protocol, source, port, f.address, f.port, f.node, f.since_ns, f.ended_ns)
                for f, (source, port) in asked.values()
            ]
            for n, found in zip(asked, self._ask(flows), strict=True):
                known[n] = found
        return known

    def end(self) -> None:
        """Write the rest, the summaries and the last line."""
        time.sleep(SETTLING_NS / 1e9)
        self.flush(everything=True)
        for summary in self._tally.summaries():
            self._write(**summary)
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._write(kind="end", ended_monotonic_ns=time.monotonic_ns(), cpu_seconds=used.ru_utime + used.ru_stime)
        self._file.close()

    def _write(self, **fields: Any) -> None:
        self._file.write(json.dumps(fields) + "\n")
