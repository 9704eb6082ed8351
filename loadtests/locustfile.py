"""locust's file: users that are streams of arrivals, a shape that turns a rate into users, the load log.

    LOADTEST_SPEC=spec.json LOADTEST_OUT=load.jsonl locust -f loadtests/locustfile.py --headless

A user never waits for an answer: each request runs in a greenlet of its own, and its latency is counted from when
it was due (no coordinated omission).  More requests a second are more users, so locust's own shapes, web page and
distributed workers all keep their meaning.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
from random import Random

import gevent
from locust import LoadTestShape, User, events, task
from locust.runners import MasterRunner, WorkerRunner

from loadtests import shapes
from loadtests.arrivals import stream
from loadtests.flows import UDP, flow_of
from loadtests.log import Failure, LoadLog
from loadtests.requests import Client
from loadtests.spec import read_spec
from loadtests.tally import Tally

FLUSH_SECONDS = 0.25
SPEC = read_spec(os.environ["LOADTEST_SPEC"])
FLOWS = tuple(flow_of(name, SPEC) for name in SPEC.flows)
shapes.check(SPEC.shape)

_tally = Tally(SPEC.flows)
_client = Client(SPEC.timeout_seconds, named=SPEC.named_answers, http_path=SPEC.http_path)
_numbers = itertools.count()
_log: LoadLog | None = None
_in_flight = 0


class ArrivalRate(LoadTestShape):
    """As many users as the wanted rate needs streams."""

    def tick(self) -> tuple[int, float] | None:
        """(users, users started a second); None ends the load."""
        seconds = self.get_run_time()
        if SPEC.seconds is not None and seconds > SPEC.seconds:
            return None
        rate = SPEC.arrivals_per_second * shapes.factor_at(SPEC.shape, seconds)
        users = max(1, math.ceil(rate / SPEC.arrivals_per_user))
        return users, users


class Stream(User):
    """An even stream of requests over all flows in turn."""

    def on_start(self) -> None:
        """A generator of its own: which request is sent when does not depend on the others."""
        self._number = next(_numbers)
        self._rng = Random(f"{SPEC.seed}/{self._number}")

    @task
    def run_for_ever(self) -> None:
        """Send what is due, at its time, until the user is stopped."""
        first = self._rng.randrange(len(FLOWS))
        rate = min(SPEC.arrivals_per_user, SPEC.arrivals_per_second)
        for number, at_ns in enumerate(stream(rate, self._rng, time.monotonic_ns())):
            gevent.sleep(max(0.0, (at_ns - time.monotonic_ns()) / 1e9))
            self._launch(FLOWS[(first + number) % len(FLOWS)], at_ns, f"{self._number}-{number}".encode())

    def _launch(self, flow, at_ns: int, token: bytes) -> None:
        if _in_flight >= SPEC.most_in_flight:
            _tally.not_sent(flow.name)
            return
        gevent.spawn(_request, self.environment, flow, self._rng.choice(flow.destinations), at_ns, token)


def _request(environment, flow, to, at_ns: int, token: bytes) -> None:
    global _in_flight
    _in_flight += 1
    sent_ns = time.monotonic_ns()
    try:
        outcome = _client.send(flow.kind, to, token)
    finally:
        _in_flight -= 1
    ended_ns = time.monotonic_ns()
    if outcome.cause:
        _tally.failed(flow.name, at_ns, sent_ns, outcome.cause)
        protocol = "udp" if flow.kind == UDP else "tcp"
        _log.failure(
            Failure(
                flow.name, protocol, at_ns, ended_ns, outcome.cause, str(to), to.address, to.port, to.node,
                outcome.pod, outcome.source,
            )
        )  # fmt: skip
    else:
        _tally.answered(flow.name, at_ns, sent_ns, ended_ns, f"{outcome.pod} {outcome.node}")
    environment.events.request.fire(
        request_type=flow.kind,
        name=flow.name,
        response_time=(ended_ns - at_ns) / 1e6,
        response_length=0,
        exception=RuntimeError(outcome.cause) if outcome.cause else None,
        context={},
    )


@events.init.add_listener
def begin(environment, **_) -> None:
    """Open the log, and end the load when standard input ends, if asked to."""
    global _log
    if isinstance(environment.runner, MasterRunner):
        return
    out = os.environ["LOADTEST_OUT"]
    if isinstance(environment.runner, WorkerRunner):
        out = f"{out}.{environment.runner.client_id}"
    _log = LoadLog(out, SPEC, _tally, _lookup() if SPEC.lab else None)
    gevent.spawn(_flush_for_ever)
    if os.environ.get("LOADTEST_UNTIL_STDIN_ENDS") and environment.runner:
        gevent.spawn(_until_stdin_ends, environment)


@events.quit.add_listener
def end(**_) -> None:
    """Wait for what is under way, then close the log."""
    if _log is None:
        return
    deadline = time.monotonic() + SPEC.timeout_seconds * 2 + 1
    while _in_flight and time.monotonic() < deadline:
        gevent.sleep(0.02)
    _log.end()


def _flush_for_ever() -> None:
    while True:
        gevent.sleep(FLUSH_SECONDS)
        _log.flush()


def _until_stdin_ends(environment) -> None:
    while gevent.os.tp_read(sys.stdin.fileno(), 1):
        pass
    environment.runner.quit()
    if environment.web_ui:
        environment.web_ui.stop()


def _lookup():
    from harness.lab.control import LabClient, LabError

    client = LabClient(SPEC.lab)

    def ask(flows: list[dict]) -> list[dict | None]:
        try:
            return client.call("flows.lookup", flows=flows)
        except LabError:
            return [None] * len(flows)  # the load goes on; the log says that it does not know

    return ask
