"""Attributes each lost request to a fault that makes it unavoidable, or to none.  Pure.

A request to a pod that is down is unavoidably lost until the slices no longer list the pod and the kernels had time to
follow; a request through a node that is down, drops packets, has a full connection table or no rules is unavoidably
lost for as long as that lasts.  Every other loss is an error of the engine.
"""

from __future__ import annotations

from chaos.faults import having
from chaos.model import Effect
from chaos.perform import StepResult
from chaos.verdict.facts import Facts, LostRequest

KILLING, UNREACHABLE, DROPPING, FLUSHED, REBALANCING = map(
    having, (Effect.PODS_DOWN, Effect.UNREACHABLE, Effect.DROPPING, Effect.RULES_GONE, Effect.REBALANCING)
)
CUT = ("timeout", "reset", "no answer")
POD, NODE, PACKETS, RULES, FLOW, LOCAL, STAYED, BALANCER, REUSED = (
    "the pod was down", "the node was unreachable", "the node dropped packets", "the node had no rules",
    "the flow began while the node had no rules", "no ready endpoint on the node",
    "the client stayed with an endpoint until its end", "the balancer moved its connection",
    "connection tracking took it for an earlier connection from its port",
)  # fmt: skip
DEFAULT_LIMIT_SECONDS, SLACK_SECONDS, START_SECONDS, KEPT_SECONDS, BALANCED_SECONDS = 1.0, 0.25, 1.0, 30.0, 3.0
"""Convergence limit of a kernel if no objective sets one; maximum delay in observing a change; time from the start of a
pod's process until it answers; time for which connection tracking keeps an unreplied flow; time until a load balancer
uses a healthy node again: a health check in progress, the pause after it, and the next one."""


def sync_period(facts: Facts) -> float:
    """The engines' minSyncPeriod in seconds."""
    return facts.run.lab.min_sync_period_seconds if facts.run.lab else 0.0


def limit_seconds(facts: Facts) -> float:
    """How long a kernel may lag behind a change of the slices: the objective, plus the wait for a sync."""
    wanted = facts.run.objectives.node_convergence_seconds
    return (DEFAULT_LIMIT_SECONDS if wanted is None else wanted) + sync_period(facts)


def account(failure: LostRequest, done: StepResult, facts: Facts) -> str:
    """The effect of the fault that made this loss unavoidable; "" if none did."""
    limit = limit_seconds(facts)
    until = max(done.ended or 0.0, done.began) + SLACK_SECONDS
    meanwhile = failure.ended >= done.began and failure.at <= until
    up = until + START_SECONDS
    dead = failure.pod in done.pods or (done.fault in UNREACHABLE and facts.homes.get(failure.pod or "") in done.nodes)
    if done.fault in KILLING and dead and failure.at <= up and _offered(facts, failure.pod or "", failure.at, limit):
        return POD
    if meanwhile and done.fault in UNREACHABLE and _by_way_of(failure, done.nodes):
        return NODE
    if moved(failure, done):
        return BALANCER
    if meanwhile and done.fault in DROPPING and failure.cause == "timeout" and _touches(failure, done.nodes, facts):
        return PACKETS
    if meanwhile and done.fault in FLUSHED and _by_way_of(failure, done.nodes):
        return RULES
    if done.fault in KILLING and dead and meanwhile and _began_before(failure):
        return STAYED
    if kept_since(failure, done):
        return FLOW
    return wherever(failure, facts)


def wherever(failure: LostRequest, facts: Facts) -> str:
    """The reason why a loss is unavoidable independent of the fault, by the semantics of Kubernetes; "" if none."""
    limit = limit_seconds(facts)
    if failure.flow.startswith("local-") and failure.node and not _local(facts, failure.node, failure.at, limit):
        return LOCAL
    if failure.flow.endswith("-kept") and _ended(failure, facts, limit):
        return STAYED
    if "-udp" not in failure.flow and failure.older and failure.cause in CUT:
        return REUSED  # proxies remove stale flows of UDP only (CT-04): a TCP flow may outlive its endpoint
    return ""


def _began_before(failure: LostRequest) -> bool:
    """Whether its connection may predate the fault: one to a pod that died without FIN or RST hangs until it ends."""
    return failure.older or failure.flow.endswith("-keepalive")


def _ended(failure: LostRequest, facts: Facts, limit: float) -> bool:
    """Whether its endpoint was removed: UDP flows stay with a terminating endpoint until it is gone, and packets in
    flight when a proxy removes a flow are lost.
    """
    pod = failure.pod or ""
    terminated = facts.terminated.get(pod, ())
    terminating = any(since <= failure.ended and failure.at <= gone + limit for since, gone in terminated)
    return terminating or any(left <= failure.ended and failure.at <= left + limit for left in facts.left.get(pod, ()))


def kept_since(failure: LostRequest, done: StepResult) -> bool:
    """Whether it may belong to a flow that began while a node had no rules, and that stays untranslated.

    Proxies remove such flows when a Service or its endpoints change, but not after rules were lost (CT-04).
    """
    if done.fault not in FLUSHED or not failure.flow.endswith("-kept") or not _by_way_of(failure, done.nodes):
        return False
    return done.began <= failure.at <= max(done.ended or 0.0, done.began) + KEPT_SECONDS


def moved(failure: LostRequest, done: StepResult) -> bool:
    """Whether the balancer may have moved its connection: when it removed a node, or added it again after the heal.

    All flows are rehashed then, including those over other nodes; the run does not wait until it adds the node.
    """
    if done.fault not in REBALANCING or not failure.flow.startswith("balancer-") or failure.cause not in CUT:
        return False
    back = max(done.engines_back or 0.0, done.ended or 0.0, done.began) + BALANCED_SECONDS
    return failure.ended >= done.began and failure.at <= back


def sender(where: str) -> str:
    """The node whose pod sends this load, by the lab's naming; for other senders, the sender itself."""
    return where.replace("caller-", "node-", 1)


def _by_way_of(failure: LostRequest, nodes: tuple[str, ...]) -> bool:
    """Whether it went to or from one of the nodes, or through a load balancer to an unknown node."""
    return (
        failure.node in nodes
        or sender(failure.where) in nodes
        or (failure.node is None and failure.flow.startswith("balancer-"))
    )


def _touches(failure: LostRequest, nodes: tuple[str, ...], facts: Facts) -> bool:
    """Whether its packets crossed one of the nodes, as far as is known."""
    unknown = failure.node is None and failure.pod is None
    return _by_way_of(failure, nodes) or facts.homes.get(failure.pod or "") in nodes or unknown


def _offered(facts: Facts, pod: str, at: float, limit: float) -> bool:
    """Whether kernels may have routed to the pod then: it was a ready endpoint, or had been until shortly before."""
    return any(began <= at <= end + limit for began, end in facts.offered.get(pod, ()))


def _local(facts: Facts, node: str, at: float, limit: float) -> bool:
    """Whether some pod of the node was a ready endpoint during the whole relevant time."""
    return any(
        began + limit <= at <= end
        for pod, spans in facts.offered.items()
        if facts.homes.get(pod) == node
        for began, end in spans
    )
