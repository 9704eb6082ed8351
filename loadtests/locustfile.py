"""locust's file: users that are streams of arrivals, a shape that turns a rate into users, the load log.

    LOADTEST_SPEC=spec.json LOADTEST_OUT=load.jsonl locust -f loadtests/locustfile.py --headless

A user never waits for an answer: each request runs in its own greenlet, and its latency is counted from when it was
due (no coordinated omission).  The rate is set by the number of users, so locust's own shapes, web page and distributed
workers work as usual.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from random import Random

import gevent
from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from harness.lab.answers import FlowEndpoint, FlowQuery
from loadtests import shapes
from loadtests.arrivals import Stream, users_for
from loadtests.flows import DATAGRAMS, ONE_FLOW_EACH, Flow, FlowDestination, flow_of
from loadtests.log import Ask, FailedRequest, LoadLog
from loadtests.requests import LoadClient
from loadtests.spec import read_spec
from loadtests.tally import LATE_NS, Tally

FLUSH_SECONDS = 0.25
SPEC = read_spec(os.environ["LOADTEST_SPEC"])
FLOWS = tuple(flow_of(name, SPEC) for name in SPEC.flows)
shapes.check(SPEC.shape)

_tally = Tally(SPEC.flows)
_client = LoadClient(SPEC.timeout_seconds, named=SPEC.named_answers, http_path=SPEC.http_path)
_numbers = itertools.count()
_log: LoadLog | None = None
_in_flight = 0


class ArrivalRate(LoadTestShape):
    """As many users as the required rate needs streams."""

    def tick(self) -> tuple[int, float] | None:
        """(users, users started per second); None ends the load."""
        seconds = self.get_run_time()
        if SPEC.seconds is not None and seconds > SPEC.seconds:
            return None
        rate = SPEC.arrivals_per_second * shapes.factor_at(SPEC.shape, seconds)
        users, _ = users_for(rate, SPEC.arrivals_per_user)
        return users, users


def rate_of_each(environment: Environment) -> float:
    """The present rate of each stream: the requested rate divided by a whole number of users."""
    assert environment.shape_class, "this file has one"
    rate = SPEC.arrivals_per_second * shapes.factor_at(SPEC.shape, environment.shape_class.get_run_time())
    return users_for(rate, SPEC.arrivals_per_user)[1]


class Arrivals(User):
    """An even stream of requests over all flows in turn."""

    def on_start(self) -> None:
        """Each user has its own random generator, so that its requests do not depend on other users."""
        self._number = next(_numbers)
        self._rng = Random(f"{SPEC.seed}/{self._number}")

    @task
    def run_for_ever(self) -> None:
        """Send requests when due, until the user is stopped."""
        self._first, self._count = self._rng.randrange(len(FLOWS)), 0
        self._stream = Stream(rate_of_each(self.environment), self._rng, time.monotonic_ns())
        while True:
            gevent.sleep(max(0.0, (self._stream.next_ns - time.monotonic_ns()) / 1e9))
            flow, at_ns = self._take()
            self._launch(flow, at_ns, f"{self._number}-{self._count}".encode())

    def _take(self) -> tuple[Flow, int]:
        """The due arrival, and the next flow."""
        at_ns, flow = self._stream.next_ns, FLOWS[(self._first + self._count) % len(FLOWS)]
        self._stream.advance(rate_of_each(self.environment))
        self._count += 1
        _tally.due(flow.name)
        return flow, at_ns

    def on_stop(self) -> None:
        """Discard requests that were due and have not been sent."""
        while getattr(self, "_stream", None) and self._stream.next_ns <= time.monotonic_ns() - LATE_NS:
            _tally.not_sent(self._take()[0].name)

    def _launch(self, flow: Flow, at_ns: int, token: bytes) -> None:
        if _in_flight >= SPEC.most_in_flight:
            _tally.not_sent(flow.name)
            return
        gevent.spawn(_request, self.environment, flow, self._rng.choice(flow.destinations), at_ns, token)


def _request(environment: Environment, flow: Flow, to: FlowDestination, at_ns: int, token: bytes) -> None:
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
        protocol = "udp" if flow.kind in DATAGRAMS else "tcp"
        assert _log, "the log is open before anything is sent"
        _log.failure(
            FailedRequest(
                flow.name, protocol, at_ns, ended_ns, outcome.cause, str(to), to.address, to.port, to.node,
                outcome.pod, outcome.source, sent_ns if flow.kind in ONE_FLOW_EACH else None,
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
def begin(environment: Environment, **_: object) -> None:
    """Open the log, and end the load when standard input ends, if asked to."""
    global _log
    if isinstance(environment.runner, MasterRunner):
        return
    out = os.environ["LOADTEST_OUT"]
    if isinstance(environment.runner, WorkerRunner):
        out = f"{out}.{environment.runner.client_id}"
    _log = LoadLog(out, SPEC, _tally, _lookup() if SPEC.lab else None)
    gevent.spawn(_flush_for_ever, _log)
    if os.environ.get("LOADTEST_UNTIL_STDIN_ENDS") and environment.runner:
        gevent.spawn(_until_stdin_ends, environment, environment.runner)


@events.quit.add_listener
def end(**_: object) -> None:
    """Wait for requests in progress, then close the log."""
    if _log is None:
        return
    deadline = time.monotonic() + SPEC.timeout_seconds * 2 + 1
    while _in_flight and time.monotonic() < deadline:
        gevent.sleep(0.02)
    _log.end()


def _flush_for_ever(log: LoadLog) -> None:
    while True:
        gevent.sleep(FLUSH_SECONDS)
        log.flush()


def _until_stdin_ends(environment: Environment, runner: Runner) -> None:
    while gevent.os.tp_read(sys.stdin.fileno(), 1):
        pass
    runner.quit()
    if environment.web_ui:
        environment.web_ui.stop()


def _lookup() -> Ask:
    from harness.lab.control import LabClient, LabError

    client = LabClient(SPEC.lab)

    def ask(flows: list[FlowQuery]) -> list[FlowEndpoint | None]:
        try:
            return client.flows_lookup(flows)
        except LabError:
            return [None] * len(flows)  # the load continues; the log has no endpoint

    return ask
