"""Runs cases against a proxy: those of one configuration against one process, one after another.

A Service of the test bed detects when a proxy has completed a change: it is changed last, in both families, and once
packets to it reach the new endpoint, all earlier changes have been processed.  Flows that are still wrong then get a
short additional time, as a Node's changes arrive by a separate watch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.acceptance.case_config import interface_of
from harness.acceptance.cases import Case
from harness.acceptance.observer import addresses_of
from harness.acceptance.run import shown
from harness.apiserver.pace import add_service_cidrs
from harness.conformance.entry import Entry, EntryStep
from harness.conformance.packets import Sender
from harness.conformance.result import UnmetExpectation
from harness.external.stage import Ended, ProxyEnvironment
from harness.judge.oracle.settings import packed
from harness.judge.packet import Flow, Outcome
from harness.kube.proxy import Command
from harness.kube.resources import SERVICE_NAME
from harness.log.events import Event, JsonObject
from harness.places import vm

BARRIER_SECONDS, START_SECONDS, LATE_SECONDS = 10.0, 60.0, 2.0
"""Timeouts for a change, for the first sync, and for changes that the test bed's Service cannot detect."""
BARRIER = "harness-barrier"
_BARRIERS = {"IPv4": ("198.19.252.1", "198.19.252.2"), "IPv6": ("2001:2:0:252::1", "2001:2:0:252::2")}
"""Addresses of the test bed's Service and its endpoint, which no case uses (RFC 2544, RFC 5180)."""
_FIRST_PORT = 1024


@dataclass
class CaseResult:
    """The result of one case: `passed`, `failed` or `not applicable`, the latter with `why`.

    `events` are those that a random cluster was reduced to.
    """

    entry: Entry
    state: str
    why: str = ""
    seconds: float = 0.0
    failures: list[UnmetExpectation] = field(default_factory=list)
    events: list[Event] | None = None


class Testbed:
    """Context manager: a node with a case's configuration and the proxy running."""

    def __init__(self, command: Command, mode: str, case: Case, variant: str | None = None, version: str = "") -> None:
        self._case, self._raw = case, case.raw
        interface = interface_of("pod-local", case.raw)
        self._stage = ProxyEnvironment(command, mode, case.node, fields_of(case.raw, mode), variant, interface, version)
        self._held: dict[tuple[str, str, str], None] = {}
        self._number, self._followed = 0, False

    def __enter__(self) -> Testbed:
        self._stage.__enter__()
        try:
            self._world = self._stage.world
            self._local = [packed(text) for text in self._raw.get("localAddresses") or ()]
            self._world.add_addresses(self._local)
            self._world.route_to_pods([packed(end) for _, end in _BARRIERS.values()])
            self._sender = Sender(self._world, self._stage.mode)
            add_service_cidrs(self._stage.api.store, self._raw.get("serviceCIDRs"))
            self._put("nodes", self._node({}))
            self._raise_barrier()
            self._stage.start()
        except BaseException:
            self._stage.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stage.__exit__()

    def run(self, entry: Entry) -> CaseResult:
        """One case from an empty cluster; the next case's first step removes what it left."""
        began = time.monotonic()
        result = CaseResult(entry, "passed")
        if not self._stage.running:  # the previous case reports that it ended
            self._stage.stop()
            self._stage.start()
        pods, nodes = addresses_of(entry.case)
        nodes = [address for address in nodes if address not in self._local]
        self._world.add_addresses(nodes)
        self._world.route_to_pods([address for address in pods if address not in self._local])
        try:
            for number, step in enumerate(entry.steps):
                result.failures += self._step(number, step)
        except Ended as error:
            result.failures.append(UnmetExpectation(number, "", "the proxy runs", str(error)))
        self._clear()
        self._world.remove_addresses(nodes)
        self._sender.forget()
        result.state = "failed" if result.failures else "passed"
        result.seconds = time.monotonic() - began
        return result

    @property
    def followed(self) -> bool:
        """Whether the proxy has applied any change so far."""
        return self._followed

    def stop(self) -> None:
        """Stop the proxy; the next case starts it again."""
        self._stage.stop()

    def _step(self, number: int, step: EntryStep) -> Iterator[UnmetExpectation]:
        if step.restart:
            self._stage.stop()
        changed = time.monotonic()
        for kind, resource, manifest in step.events:
            self._apply(kind, resource, manifest)
        if step.restart:
            self._stage.start()
        for seconds, flow in step.drains:
            yield from self._drained(number, seconds, flow, changed)
        if late := self._barrier(
            families_of(step), START_SECONDS if step.restart or not self._followed else BARRIER_SECONDS
        ):
            yield UnmetExpectation(number, "", "changes are followed", late)
            return
        again = partial(self._sender.outcome, again=True)
        yield from self._settled(number, [(flow, again, self._sender.outcome(flow)) for flow in step.flows])
        standing = [(flow, partial(self._sender.stand, key)) for key, flow in step.standing]
        yield from self._settled(number, [(flow, ask, ask(flow)) for flow, ask in standing])

    def _settled(
        self, number: int, left: list[tuple[Flow, Callable[[Flow], Outcome], Outcome]]
    ) -> Iterator[UnmetExpectation]:
        """Flows that stay wrong after retries: stale flows are removed only after the rules are written."""
        until = time.monotonic() + LATE_SECONDS * vm.patience()
        while left := [each for each in left if not alike(each[0], each[2])]:
            if time.monotonic() > until:
                break
            self._stage.moments.wait(0.1)
            self._stage.check()
            left = [(flow, ask, ask(flow)) for flow, ask, _ in left]
        for flow, _, found in left:
            yield from self._failures(number, flow, found)

    @staticmethod
    def _failures(number: int, flow: Flow, found: Outcome) -> Iterator[UnmetExpectation]:
        if not alike(flow, found):
            assert flow.expected  # a step has no other flows
            yield UnmetExpectation(number, in_words(flow), outcome_in_words(flow.expected), outcome_in_words(found))

    def _drained(self, number: int, seconds: float, flow: Flow, changed: float) -> Iterator[UnmetExpectation]:
        last = self._sender.drain(flow, changed + seconds)
        if last is not None and last.at - changed > seconds:
            happened = f"{outcome_in_words(last.outcome)} {last.at - changed:.2f} s after the change"
            yield UnmetExpectation(number, in_words(flow), f"nothing else {seconds:g} s after the change", happened)

    def _apply(self, kind: str, resource: str, manifest: bytes) -> None:
        held = json.loads(manifest)
        if resource == "nodes" and held["metadata"]["name"] == self._case.node:
            self._put("nodes", self._node(held if kind != "DELETED" else {}))
            return
        meta = held["metadata"]
        key = resource, meta.get("namespace") or "", meta["name"]
        if kind == "DELETED":
            self._held.pop(key, None)
            self._stage.api.store.remove(*key)
        else:
            self._held[key] = None
            self._put(resource, held)

    def _put(self, resource: str, manifest: JsonObject) -> None:
        self._stage.api.store.put(resource, json.dumps(manifest).encode())

    def _node(self, given: JsonObject) -> JsonObject:
        """The Node object: the case's fields, its name and its addresses."""
        ips = (self._raw.get("nodeIPs") or {}).values()
        addresses = [{"type": "InternalIP", "address": address} for address in ips]
        status = {"addresses": addresses} | (given.get("status") or {})
        meta = {"name": self._case.node} | (given.get("metadata") or {})
        return {"apiVersion": "v1", "kind": "Node", **given, "metadata": meta, "status": status}

    def _clear(self) -> None:
        for key in self._held:
            self._stage.api.store.remove(*key)
        self._held.clear()
        self._put("nodes", self._node({}))

    def _raise_barrier(self) -> None:
        self._number += 1
        port: JsonObject = {"name": "b", "protocol": "TCP"}
        for family, (address, end) in _BARRIERS.items():
            name = f"{BARRIER}-{family.lower()}"
            spec: JsonObject = {
                "type": "ClusterIP",
                "clusterIP": address,
                "clusterIPs": [address],
                "ipFamilies": [family],
            }
            spec |= {"ports": [port | {"port": _FIRST_PORT + self._number}]}
            meta = {"namespace": BARRIER, "name": name}
            slice_meta = meta | {"labels": {SERVICE_NAME: name}}
            ends = [{"addresses": [end], "conditions": {"ready": True}}]
            self._put("services", {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
            self._put(
                "endpointslices",
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": slice_meta,
                    "addressType": family,
                    "endpoints": ends,
                    "ports": [port | {"port": 2 * _FIRST_PORT + self._number}],
                },
            )

    def _barrier(self, families: set[str], seconds: float) -> str:
        """Wait until all changes so far were processed in these families; returns the error otherwise."""
        self._raise_barrier()
        until = time.monotonic() + seconds * vm.patience()
        waiting = [_BARRIERS[family] for family in sorted(families)]
        while True:
            self._stage.check()
            waiting = [each for each in waiting if not self._passed(*each)]
            if not waiting:
                self._followed = True
                return ""
            if time.monotonic() > until:
                return f"a Service that changed later was not programmed within {seconds:g} s"
            self._stage.moments.wait(0.05)

    def _passed(self, address: str, end: str) -> bool:
        ports = _FIRST_PORT + self._number, 2 * _FIRST_PORT + self._number
        return self._sender.arrives((packed(address), ports[0]), (packed(end), ports[1]))


def families_of(step: EntryStep) -> set[str]:
    """Families of the case's packets: a proxy may support only one."""
    flows = [*step.flows, *(flow for _, flow in (*step.standing, *step.drains))]
    return {"IPv4" if len(flow.packet.destination) == 4 else "IPv6" for flow in flows}


def alike(flow: Flow, found: Outcome) -> bool:
    """Whether the flow expects that outcome; for IPv6 the node itself may choose its source address (RFC 6724)."""
    wanted = flow.expected
    if wanted is None or found == wanted:
        return True
    itself = flow.origin == "node-host" and len(flow.packet.source) == 16 and wanted.masquerade
    return itself and found == wanted._replace(masquerade=False)


def in_words(flow: Flow) -> str:
    """The flow's packet."""
    name = {6: "TCP", 17: "UDP", 132: "SCTP"}[flow.packet.protocol]
    return f"{flow.origin}: {flow.name.partition(':')[2] if flow.name.startswith('stand:') else flow.name} ({name})"


def outcome_in_words(outcome: Outcome) -> str:
    """One line, in the terms of case files."""
    fields = shown(outcome)
    ends = f" to {', '.join(fields['endpoints'])}" if fields["endpoints"] else ""
    return f"{fields['outcome']}{ends}{', masqueraded' if fields['masquerade'] else ''}"


def fields_of(raw: dict[str, Any], mode: str) -> dict[str, Any]:
    """A case's configuration as KubeProxyConfiguration."""
    of_mode: dict[str, Any] = {}
    if raw.get("masqueradeAll"):
        of_mode["masqueradeAll"] = True
    if raw.get("masqueradeBit") is not None:
        of_mode["masqueradeBit"] = raw["masqueradeBit"]
    found: dict[str, Any] = {}
    iptables = dict(of_mode)
    if raw.get("localhostNodePorts") is not None:
        iptables["localhostNodePorts"] = raw["localhostNodePorts"]
    blocks = {"iptables": iptables, "nftables": of_mode, "ipvs": dict(raw.get("ipvs") or {})}
    found["blocks"] = {name: block for name, block in blocks.items() if block}
    for key in ("detectLocalMode", "nodePortAddresses", "featureGates"):
        if raw.get(key):
            found[key] = raw[key]
    cidr = raw.get("clusterCIDR")
    if cidr:
        found["clusterCIDR"] = cidr if isinstance(cidr, str) else ",".join(cidr)
    detect = dict(raw.get("detectLocal") or {})
    for key in ("bridgeInterface", "interfaceNamePrefix"):
        if raw.get(key):
            detect[key] = raw[key]
    if detect:
        found["detectLocal"] = detect
    if raw.get("conntrackTCPBeLiberal"):
        found["conntrack"] = {"tcpBeLiberal": True}
    return found
