"""Each fault once, in a real lab: its effects on pods, kernels and packets are as documented, and are healed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import pytest

from chaos.faults import FAULTS, fault_of
from chaos.model import Op, PlannedFault
from chaos.perform import Performer, StepResult
from chaos.targets.lab import LabTarget
from harness.lab.answers import NodeStatus, PodStatus
from harness.lab.control import LabClient
from harness.lab.launch import lab
from harness.lab.topology import LabOptions
from tests.waiting import until as eventually

pytestmark = pytest.mark.xdist_group("faults")

NODE, OTHER = "node-1", "node-2"
ADDRESS = {NODE: "10.10.0.11", OTHER: "10.10.0.12"}
PODS = 6
API = "http://10.10.0.1:6443/version"
DATAGRAMS = """
import select, socket, sys, time
sockets, answered, slowest, began = [], 0, 0.0, time.monotonic()
for number in range(40):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((sys.argv[1], 30082))
    try:
        sock.send(b"x")
        sockets.append(sock)
    except OSError:
        pass
while sockets and (there := select.select(sockets, [], [], max(0, began + 0.5 - time.monotonic()))[0]):
    for sock in there:
        sockets.remove(sock)
        try:
            answered += bool(sock.recv(100))
        except OSError:
            pass
    slowest = time.monotonic() - began
print(answered, slowest)
"""


class Watched:
    """The lab during a fault, as seen by its users."""

    def __init__(self, client: LabClient, step: PlannedFault) -> None:
        self.client, self.step = client, step
        self.before = client.status()

    def pod(self, name: str | None = None) -> PodStatus | None:
        """The first affected pod in its current state; None if it is gone."""
        pods = self.client.status().pods
        return next((pod for pod in pods if pod.name == (name or self.step.pods[0])), None)

    def was(self) -> PodStatus:
        """The first affected pod in its earlier state."""
        return next(pod for pod in self.before.pods if pod.name == self.step.pods[0])

    def node(self, name: str = NODE) -> NodeStatus:
        return next(node for node in self.client.status().nodes if node.name == name)

    def curl(self, url: str, where: str = "client", seconds: float = 0.5) -> int:
        """curl's exit code: 0 answered, 7 refused, 28 timed out."""
        command = ["curl", "-sf", "-o", "/dev/null", "-m", str(seconds), url]
        return self.client.run(where, command).returncode

    def serves(self, node: str) -> bool:
        """Whether a node's node port answers 8 times in a row."""
        return all(self.curl(f"http://{ADDRESS[node]}:30080/") == 0 for _ in range(8))

    def pod_itself(self) -> int:
        """As `curl`, but directly, without a Service."""
        return self.curl(f"http://{self.was().address}:8080/", self.was().node)

    def datagrams(self) -> int:
        """How many of 40 simultaneous external requests through the node were answered."""
        return int(self._datagrams()[0])

    def slowest_datagram(self) -> float:
        """Seconds until the last answer to 40 simultaneous requests."""
        return float(self._datagrams()[1])

    def _datagrams(self) -> list[bytes]:
        return self.client.run("client", [sys.executable, "-c", DATAGRAMS, ADDRESS[NODE]]).stdout.split()

    def requests_of_the_engine(self) -> float:
        """The number of requests from the node's engine to the API."""
        text = self.client.run(NODE, ["curl", "-s", "http://127.0.0.1:10249/metrics"]).stdout.decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("rest_client_requests"))

    def log_of_the_engine(self) -> str:
        return (self.client.folder / NODE / "log").read_text()


class Case(NamedTuple):
    """A fault with its parameters and duration, and the effects that must be observed within that time."""

    fault: str
    seconds: float
    effects: tuple[Callable[[Watched], object], ...]
    parameters: dict = {}


def follows(w: Watched, node: str) -> bool:
    """Whether the node's kernel removes a pod that fails its probe."""
    pod = next(p for p in w.before.pods if p.node == OTHER)
    since = w.client.status().seconds
    w.client.perform("pod.health", pod=pod.name, word="fail")
    try:
        eventually(lambda: _seen(w, since, pod, OTHER))
        return _seen(w, since, pod, node)
    finally:
        w.client.perform("pod.health", pod=pod.name, word="ok")


def _seen(w: Watched, since: float, pod: PodStatus, node: str) -> bool:
    found = w.client.observations(since)
    return any(o.node == node and o.address == pod.address and o.seen and not o.wanted for o in found)


def slow(w: Watched) -> bool:
    began = time.monotonic()
    return w.curl(API, NODE, 5) == 0 and time.monotonic() - began >= 1


def asks_again_and_again(w: Watched) -> bool:
    before = w.requests_of_the_engine()
    return eventually(lambda: w.requests_of_the_engine() >= before + 4)


def flaps(w: Watched) -> bool:
    eventually(lambda: not w.pod().ready)
    return eventually(lambda: w.pod().ready)


def loops(w: Watched) -> bool:
    pids = {w.was().pid}
    return eventually(lambda: pids.add(w.pod().pid) or len(pids - {None}) >= 2 and None in pids)


CASES = [
    Case("pod-kill", 2, (lambda w: w.pod_itself() == 7, lambda w: not w.pod().ready)),
    Case("pod-terminate", 1, (lambda w: not w.pod(), lambda w: len(w.client.status().pods) == PODS)),
    Case("pod-hang", 3, (lambda w: w.pod_itself() == 28, lambda w: not w.pod().ready)),
    Case("crash-loop", 9, (loops,), {"up_seconds": 2.0, "down_seconds": 2.0}),
    Case(
        "slow-start", 4,
        (lambda w: w.pod().pid not in (None, w.was().pid) and not w.pod().ready and w.pod_itself() == 0,),
        {"warm_up_seconds": 6.0},
    ),
    Case("readiness-flap", 9, (flaps,), {"period_seconds": 4.0, "jitter": 0.0}),
    Case("probe-timeout", 4, (lambda w: not w.pod().ready, lambda w: w.pod_itself() == 0, lambda w: w.serves(NODE))),
    Case(
        "node-loss", 5,
        (
            lambda w: w.curl(f"http://{ADDRESS[NODE]}:30080/") == 28,
            lambda w: not w.node().ready and not w.pod().ready and not w.pod().running,
            lambda w: w.serves(OTHER),
        ),
        {"node": NODE},
    ),
    Case(
        "node-cut", 5,
        (
            lambda w: w.curl(f"http://{ADDRESS[NODE]}:30080/") == 28,
            lambda w: not w.node().ready and w.node().engine_pid and w.pod().running,
            lambda w: w.curl(API, NODE) == 28,
            lambda w: w.serves(OTHER),
        ),
        {"node": NODE},
    ),
    Case("engine-crash", 1, (lambda w: not w.node().engine_healthy, lambda w: w.serves(NODE)), {"node": NODE}),
    Case("engine-restart", 1, (lambda w: not w.node().engine_healthy, lambda w: w.serves(NODE)), {"node": NODE}),
    Case(
        "engine-pause", 6,
        (lambda w: not w.node().engine_healthy, lambda w: not follows(w, NODE), lambda w: w.serves(OTHER)),
        {"node": NODE},
    ),
    Case(
        "rules-flushed", 0,
        (lambda w: w.curl(f"http://{ADDRESS[NODE]}:30080/") == 7, lambda w: w.serves(OTHER)),
        {"node": NODE},
    ),
    Case(
        "rules-damaged", 0,
        (lambda w: w.curl(f"http://{ADDRESS[NODE]}:30080/") == 7, lambda w: w.serves(OTHER)),
        {"node": NODE},
    ),
    Case("api-down", 1, (lambda w: w.curl(API, NODE) == 7, lambda w: w.serves(NODE))),
    Case("api-slow", 2, (slow, lambda w: w.serves(NODE)), {"delay_seconds": 1.0}),
    Case("watch-drop", 4, (asks_again_and_again,), {"every_seconds": 0.3}),
    Case("gone-storm", 3, (lambda w: "listing again" in w.log_of_the_engine(),), {"every_seconds": 0.3}),
    Case("packet-loss", 3, (lambda w: w.datagrams() < 32, lambda w: w.serves(OTHER)), {"node": NODE, "percent": 40}),
    Case("service-churn", 2, (lambda w: b"10.112.8.60" in w.client.run(OTHER, ["nft", "list", "ruleset"]).stdout,)),
    Case("endpoint-churn", 2, (lambda w: len(w.client.status().pods) >= PODS + 2,), {"pods": 2}),
    Case("conntrack-full", 4, (lambda w: w.datagrams() < 20, lambda w: w.serves(OTHER)), {"node": NODE, "free": 0}),
    Case(
        "node-drain", 3,
        (lambda w: all(p.node == OTHER for p in w.client.status().pods), lambda w: w.serves(NODE)),
        {"node": NODE, "grace_seconds": 2},
    ),
]  # fmt: skip
ELSEWHERE = {"broker-down", "packet-delay"}


def test_no_fault_is_left_out():
    assert {case.fault for case in CASES} | ELSEWHERE == FAULTS.keys()


@pytest.fixture(scope="module")
def calm(kernel_namespaces, tmp_path_factory):
    """A lab with short probe periods."""
    options = LabOptions(
        nodes=2, pods=PODS, min_sync_period_seconds=0.05, sync_period_seconds=10, failure_threshold=1,
        node_grace_seconds=1.5,
        grace_period_seconds=2, drain_seconds=0.5,
    )  # fmt: skip
    with lab(options, tmp_path_factory.mktemp("faults") / "lab") as client:
        yield client


def settles(client: LabClient) -> None:
    """Wait until all pods are ready in every kernel."""
    until = time.monotonic() + 60
    while ailments := _ailments(client):
        assert time.monotonic() < until, ailments
        time.sleep(0.02)  # between two looks, as in tests.waiting, whose message would not name the ailments


def _ailments(client: LabClient) -> list[str]:
    status = client.status()
    pods, nodes = status.pods, status.nodes
    found = [f"{pod.name} is not ready" for pod in pods if not pod.ready or pod.terminating]
    found += [
        f"{node.name} {word}: no"
        for node in nodes
        for word in ("ready", "engine_healthy", "schedulable")
        if not getattr(node, word)
    ]
    questions = client.open_questions()
    found += [f"{len(pods)} pods"] * (len(pods) != PODS) + [f"faults: {status.faults}"] * bool(status.faults)
    return found + [f"kernels have not followed {questions} changes"] * bool(questions)


class Patient(LabTarget):
    """Heals only after all checks, however busy the machine."""

    def __init__(self, client: LabClient) -> None:
        super().__init__(client)
        self.heal: tuple[Op, ...] = ()
        self.looked = threading.Event()

    def perform(self, op: Op) -> None:
        if op in self.heal:
            self.looked.wait(120)
        super().perform(op)


def begin(target: Patient, case: Case) -> tuple[Watched, threading.Thread, list[StepResult]]:
    """The fault, performed by a thread of its own."""
    client = target.client
    cluster, rng = target.cluster(), Random(case.fault)
    fault = fault_of(case.fault, case.parameters)
    chosen = fault.choose(cluster, rng)
    script = fault.script(chosen, case.seconds, rng, cluster)
    target.heal = script.heal
    pods = tuple(pod.name for pod in chosen.pods)
    step = PlannedFault(1, case.fault, case.parameters, case.seconds, pods, chosen.nodes, script)
    watched, done = Watched(client, step), []
    thread = threading.Thread(target=lambda: done.append(Performer(target).perform(step)))
    thread.start()
    return watched, thread, done


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault)
def test_every_fault_has_its_known_effect_and_is_healed(calm, case):
    settles(calm)
    target = Patient(calm)
    watched, thread, done = begin(target, case)
    try:
        for effect in case.effects:
            eventually(lambda effect=effect: effect(watched))
    finally:
        target.looked.set()
        thread.join(120)
    assert done[0].injected and done[0].healed and not done[0].errors, done[0]
    assert done[0].in_force_seconds >= case.seconds, done[0]
    settles(calm)
    assert all(eventually(lambda node=node: watched.serves(node)) for node in ADDRESS)


def test_a_delay_is_measured_in_packets_or_rejected_with_a_reason(calm):
    """Not every kernel has netem: without it the fault must count as not injected."""
    settles(calm)
    case = Case("packet-delay", 3, (), {"node": NODE, "milliseconds": 80})
    target = Patient(calm)
    watched, thread, done = begin(target, case)
    slowest = watched.slowest_datagram() if not done else 0
    target.looked.set()
    thread.join(120)
    assert done[0].healed
    if done[0].injected:
        assert slowest >= 0.08
    else:
        assert "tc qdisc add" in done[0].errors[0] and NODE in done[0].errors[0]
        assert done[0].missing
