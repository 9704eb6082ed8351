"""The userspace proxy with real connections: the answering endpoint, the client it saw, and rejections."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from pathlib import Path

import pytest

from engine.kernel.interface import KernelError
from harness.conformance.corpus.clusters import CIP, E1, E2, E3, LB, NODE_PORT, end, node, service, slice_
from tests.userspace.town import EXTERNAL, NODE, OTHER_POD, Town

UDP = socket.SOCK_DGRAM
DNS = ("dns", "UDP", 53, 0)


@pytest.fixture
def town(kernel_namespaces):
    with Town() as made:
        yield made


def http(*ends: dict) -> dict:
    return slice_(*ends, ports=[{"name": "http", "protocol": "TCP", "port": 8080}])


def dns(*ends: dict) -> dict:
    return slice_(*ends, ports=[{"name": "dns", "protocol": "UDP", "port": 5353}])


def test_connections_are_round_robin_and_come_from_the_node(town):
    town.live([E1, E2, E3], 8080)
    town.sync(node(), service(), http(end(E1), end(E2), end(E3)))
    said = [town.ask(OTHER_POD, CIP, 80) for _ in range(6)]
    assert [endpoint for endpoint, _ in said] == [E1, E2, E3] * 2
    assert OTHER_POD not in {caller for _, caller in said}
    assert town.ask(None, CIP, 80)[0] == E1


def test_services_without_endpoints_and_other_ports_are_rejected(town):
    town.endpoints.start()
    town.sync(node(), service())
    assert town.ask(OTHER_POD, CIP, 80) == ["refused"]
    assert town.ask(OTHER_POD, CIP, 81) == ["refused"]


def test_policy_local_depends_on_the_client(town):
    town.live([E1, E2], 8080)
    balancer = service("LoadBalancer", lb=[LB], externalTrafficPolicy="Local")
    town.sync(node(), balancer, http(end(E1, "n1"), end(E2, "n2")))
    for address, port in ((LB, 80), (NODE, NODE_PORT)):
        assert {town.ask(EXTERNAL, address, port)[0] for _ in range(4)} == {E1}
        assert {town.ask(OTHER_POD, address, port)[0] for _ in range(4)} == {E1, E2}
        assert {town.ask(None, address, port)[0] for _ in range(4)} == {E1, E2}


def test_policy_local_without_local_endpoints_rejects_only_external_clients(town):
    town.live([E2], 8080)
    town.sync(node(), service("NodePort", externalTrafficPolicy="Local"), http(end(E2, "n2")))
    assert town.ask(EXTERNAL, NODE, NODE_PORT) == ["refused"]
    assert town.ask(OTHER_POD, NODE, NODE_PORT)[0] == E2


def test_source_ranges_apply_only_to_the_load_balancer(town):
    town.live([E1], 8080)
    ranges = ["10.0.0.0/8"]
    town.sync(node(), service("LoadBalancer", lb=[LB], loadBalancerSourceRanges=ranges), http(end(E1)))
    assert town.ask(EXTERNAL, LB, 80) == ["refused"]
    assert town.ask(OTHER_POD, LB, 80)[0] == E1
    assert town.ask(EXTERNAL, NODE, NODE_PORT)[0] == E1


def test_affinity_holds_for_every_address_of_a_port(town):
    town.live([E1, E2, E3], 8080)
    town.sync(node(), service("NodePort", sessionAffinity="ClientIP"), http(end(E1), end(E2), end(E3)))
    first = town.ask(EXTERNAL, CIP, 80)[0]
    assert {town.ask(EXTERNAL, *where)[0] for where in ((CIP, 80), (NODE, NODE_PORT)) for _ in range(3)} == {first}
    assert town.ask(OTHER_POD, CIP, 80)[0] != first, "another client has its own"


def test_an_endpoint_that_refuses_is_skipped(town):
    town.live([E2], 8080)
    town._batch(town.node, f"addr add {E1}/32 dev eth0")
    town.sync(node(), service(), http(end(E1), end(E2)))
    assert {town.ask(OTHER_POD, CIP, 80)[0] for _ in range(4)} == {E2}


def test_all_bytes_and_half_closes_are_forwarded(town):
    town.live([E1], 8080)
    town.sync(node(), service(), http(end(E1)))
    sent = os.urandom(3_000_000)
    with town.connect(EXTERNAL, CIP, 80) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: client.recv(1 << 16), b"")) == sent


def test_datagrams_keep_their_endpoint_until_it_leaves(town):
    town.live([E1, E2], 5353, UDP)
    proxier = town.sync(node(), service(ports=[DNS]), dns(end(E1), end(E2)))
    with town.connect(OTHER_POD, CIP, 53, UDP) as client:

        def ask() -> str:
            client.send(b"who?")
            return client.recv(1024).decode().split()[0]

        assert {ask() for _ in range(4)} == {E1}
        proxier.state.observe("MODIFIED", "endpointslices", _json(dns(end(E2))))
        proxier.sync()
        assert {ask() for _ in range(4)} == {E2}
    assert town.ask(OTHER_POD, CIP, 54, UDP) == ["refused"]


def test_ipv6(town):
    ends = ["fd00:10::11", "fd00:10::12"]
    town.live(ends, 8080)
    vip = "fd00:96::10"
    six = service("NodePort", ip=vip, ipFamilies=["IPv6"])
    pieces = slice_(*map(end, ends), family="IPv6", ports=[{"name": "http", "protocol": "TCP", "port": 8080}])
    town.sync(node(), six, pieces)
    assert [town.ask("2001:db8::2", vip, 80)[0] for _ in range(2)] == ends
    assert town.ask("2001:db8::2", "2001:db8::1", NODE_PORT)[0] in ends


def test_a_deleted_service_leaves_no_address_and_no_socket(town):
    town.live([E1], 8080)
    proxier = town.sync(node(), service(), http(end(E1)))
    proxier.state.observe("DELETED", "services", _json(service()))
    proxier.sync()
    assert CIP.encode() not in town.node.run(["ip", "addr"]).stdout
    assert b":80 " not in town.node.run(["ss", "-Hltn"]).stdout


def test_writing_everything_again_repairs_what_was_removed(town):
    town.live([E1], 8080)
    proxier = town.sync(node(), service(), http(end(E1)))
    town._batch(town.node, f"addr del {CIP}/32 dev lo")
    with pytest.raises(ValueError, match=f"on one side only.*{CIP}"):
        town.opened.view.behaviour(4)
    proxier.resync()
    proxier.sync()
    assert town.opened.view.behaviour(4)
    assert town.ask(OTHER_POD, CIP, 80)[0] == E1


def test_a_port_that_is_taken_is_named_and_the_others_are_live(town):
    town.live([E1], 8080)
    taken = town.node.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.bind((NODE, NODE_PORT))
    taken.listen()
    with pytest.raises(KernelError, match=rf"cannot listen on {NODE}:{NODE_PORT}/tcp: Address already in use"):
        town.sync(node(), service("NodePort"), http(end(E1)))
    taken.close()
    assert town.ask(OTHER_POD, CIP, 80)[0] == E1


def test_too_few_descriptors_are_reported_before_anything_is_opened(kernel_namespaces):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pid = os.fork()
    if pid == 0:  # a hard limit that was lowered cannot be raised again
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (1025, 1025))
            with Town() as poor:
                poor.endpoints.start()
                with pytest.raises(KernelError, match="3 here, but RLIMIT_NOFILE allows 1,025"):
                    poor.sync(node(), service(ports=[("a", "TCP", n, 0) for n in (1, 2, 3)]), *_three())
                assert b"172.30" not in poor.node.run(["ss", "-Hltn"]).stdout
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_proxy_ends_with_its_parent_and_takes_its_addresses_along(town):
    town.live([E1], 8080)
    town.sync(node(), service(), http(end(E1)))
    kernel = town.opened.kernel
    kernel._channel.close()  # as the kernel does it when a process dies
    assert kernel._process.wait(10) == 0
    assert CIP.encode() not in town.node.run(["ip", "addr"]).stdout


def test_a_proxy_that_was_killed_is_an_error_with_its_exit_code(town):
    town.endpoints.start()
    town.sync(node(), service())
    os.kill(_child_of(town.opened.kernel._process.pid), signal.SIGKILL)
    town.opened.kernel._process.wait(10)
    with pytest.raises(KernelError, match="does not answer"):
        town.opened.kernel.everything(4)


def test_a_late_reply_is_not_mistaken_for_the_next_one(town):
    town.endpoints.start()
    town.sync(node(), service())
    kernel, proxy = town.opened.kernel, _child_of(town.opened.kernel._process.pid)
    four, six = kernel.everything(4), kernel.everything(6)
    assert four != six
    kernel._seconds = 0.3
    os.kill(proxy, signal.SIGSTOP)
    try:
        for _ in range(2):
            with pytest.raises(KernelError, match="does not answer: timed out"):
                kernel.everything(4)
        with pytest.raises(KernelError, match="does not answer"):
            kernel.apply(four)
    finally:
        os.kill(proxy, signal.SIGCONT)
    kernel._seconds = 60
    assert kernel.everything(6) == six
    assert kernel.everything(4) == four


def test_an_impossible_request_is_answered_with_an_error(town, monkeypatch):
    """As when a tool is missing: here a request that it cannot read."""
    town.endpoints.start()
    town.sync(node(), service())
    kernel = town.opened.kernel
    with pytest.raises(KernelError, match="malformed|truncated|JSON"):
        kernel._ask(b"A", b"{")
    assert kernel.everything(4)


def _child_of(pid: int) -> int:
    """nsenter may stay as the parent of what it starts."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(listed[0]) if listed else pid


def _json(manifest: dict) -> bytes:
    return json.dumps(manifest).encode()


def _three() -> list[dict]:
    return [slice_(end(E1), ports=[{"name": "a", "protocol": "TCP", "port": 8080}])]
