"""Requests to a real kernel: every reply is read and matched, and every wait is bounded."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from engine.kernel.netlink import (
    GENERIC,
    NETFILTER,
    Connection,
    Dump,
    ErrorKind,
    NetlinkError,
    Subscription,
    attributes,
    family_number,
    nfnetlink,
)
from harness.places.namespace import Namespace

from .sockets import NFT, Deaf, Older, Recording, delete_chain, get_table, headers, new_chain, new_table

ANY_FAMILY = nfnetlink(0x0A04, 0, 0, b"")
"""Asks for all chains, when dumped."""
MANY = 20_000


@pytest.fixture
def sock(namespace):
    with namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as made:
        yield made


@pytest.fixture(params=[True, False], ids=["user-namespace", "root"])
def anyone(request, kernel_namespaces):
    """A socket of one who may not widen buffers over the machine's limit, and of one who may."""
    with Namespace(user=request.param) as made, made.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as sock:
        yield sock


@pytest.mark.parametrize("wrapped", [Recording, Older])
def test_the_last_request_of_a_transaction_is_acknowledged(sock, wrapped):
    """Kernels before 6.10 never answer the end of a batch."""
    connection = Connection(wrapped(sock), answer_seconds=2)
    assert connection.transaction([new_table("a"), new_chain("a", "c"), new_chain("a", "d")], NFT) > 0
    with pytest.raises(NetlinkError):
        connection.transaction([delete_chain("a", "c"), delete_chain("a", "x"), new_chain("a", "e")], NFT)
    assert len(connection.dump(ANY_FAMILY)) == 2
    if wrapped is Recording:
        (*_, last, end) = headers(connection._sock.sent[0])
        assert last[2] & 4 and not end[2] & 4


def test_an_empty_transaction_sends_nothing(sock):
    recording = Recording(sock)
    assert Connection(recording).transaction([], NFT) == 0
    assert recording.sent == []


def test_acknowledgements_stay_in_order_after_an_error(sock):
    """The reply to one transaction is never mistaken for that to the next."""
    connection = Connection(sock)
    for turn in range(5):
        connection.transaction([new_table(f"t{turn}")], NFT)
        with pytest.raises(NetlinkError) as refused:
            connection.transaction([delete_chain(f"t{turn}", f"c{n}") for n in range(3)], NFT)
        assert [(r.index, r.code) for r in refused.value.refusals] == [(n, errno.ENOENT) for n in range(3)]
        connection.transaction([new_chain(f"t{turn}", "c")], NFT)
        with pytest.raises(NetlinkError):
            connection.transaction([new_chain(f"t{turn}", "d"), delete_chain("absent", "c")], NFT)


def test_a_refused_transaction_of_thousands_overruns_the_buffer_and_no_more(anyone):
    connection = Connection(anyone)
    connection.transaction([new_table("t")], NFT)
    many = [delete_chain("t", f"c{n}") for n in range(min(MANY, connection.room // 80))]
    with pytest.raises(NetlinkError) as refused:
        connection.transaction(many, NFT)
    assert refused.value.refusals[-1].kind is ErrorKind.NO_ROOM
    assert 1 < len(refused.value.refusals) < len(many)
    assert refused.value.kind is ErrorKind.NOT_THERE
    assert refused.value.first.index == 0
    assert b"c0\0" in refused.value.first.request
    connection.transaction([new_chain("t", "c")], NFT)
    assert len(connection.dump(ANY_FAMILY)) == 1


def test_each_of_thousands_of_failed_requests_is_reported(anyone):
    missing = [nfnetlink(0x0A04, 0, 1, get_table(f"t{n}")[20:]) for n in range(5000)]
    refused = Connection(anyone).perform(missing)
    assert [refusal.index for refusal in refused] == list(range(5000))
    assert {refusal.kind for refusal in refused} == {ErrorKind.NOT_THERE}


def test_replies_to_abandoned_requests_are_skipped(sock):
    connection = Connection(sock)
    connection.transaction([new_table("t")], NFT)
    sock.send(get_table("absent"))
    sock.send(get_table("t"))
    assert attributes(connection.ask(get_table("t"))[4:])[1] == b"t\0"


def test_an_abandoned_dump_does_not_block_the_next(sock):
    connection = Connection(sock)
    connection.transaction([new_table("t"), *(new_chain("t", f"c{n}") for n in range(3000))], NFT)
    for _ in Dump(connection, ANY_FAMILY):
        break
    assert len(connection.dump(ANY_FAMILY)) == 3000
    for _ in Dump(connection, ANY_FAMILY):
        break
    assert connection.ask(get_table("t"))


def test_numbers_start_again_before_they_run_out(sock):
    connection = Connection(sock)
    connection._next = 0xFFFFFFFF - 3
    connection.transaction([new_table("t"), new_chain("t", "a"), new_chain("t", "b")], NFT)
    with pytest.raises(NetlinkError) as refused:
        connection.transaction([delete_chain("t", "x")], NFT)
    assert refused.value.kind is ErrorKind.NOT_THERE
    assert len(connection.dump(ANY_FAMILY)) == 2


def test_errors_carry_kind_request_and_the_kernels_words(namespace, sock):
    connection = Connection(sock)
    connection.transaction([new_table("t"), new_chain("t", "c")], NFT)
    with pytest.raises(NetlinkError, match=r"deleting: No such file or directory \(ENOENT\)") as refused:
        try:
            connection.transaction([new_chain("t", "d"), delete_chain("t", "x")], NFT)
        except NetlinkError as error:
            raise error.about("deleting") from None
    first = refused.value.first
    assert (first.index, first.kind, first.request) == (1, ErrorKind.NOT_THERE, delete_chain("t", "x"))
    assert first.offset, "where the chain's name is"
    assert first.request[first.offset :].startswith(b"\x06\0\x03\0x\0")
    with namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, GENERIC) as generic:
        control = Connection(generic)
        assert family_number(control, "nlctrl") == 0x10
        with pytest.raises(NetlinkError) as absent:
            family_number(control, "no-such-family")
        assert absent.value.kind is ErrorKind.NOT_THERE


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.transaction([new_table("t")], NFT),
        lambda c: c.ask(get_table("t")),
        lambda c: c.dump(ANY_FAMILY),
        lambda c: c.require([get_table("t")]),
    ],
    ids=["transaction", "ask", "dump", "require"],
)
def test_a_kernel_that_never_answers_is_an_error_in_time(sock, ask):
    connection = Connection(Deaf(sock), answer_seconds=0.2)
    with pytest.raises(NetlinkError, match=r"no answer within 0.2 s") as silent:
        ask(connection)
    assert silent.value.kind is ErrorKind.TIMED_OUT


def test_a_closed_socket_is_an_error_of_the_same_kind(sock):
    connection = Connection(sock)
    connection.close()
    with pytest.raises(NetlinkError, match="EBADF"):
        connection.ask(get_table("t"))
    with pytest.raises(NetlinkError, match="unusable"):
        Connection(sock)


WAITS_FOR_EVER = """
import signal, socket, sys, time
from engine.kernel.netlink import NETFILTER, Connection, NetlinkError, end_waits
from tests.netlink.sockets import Deaf, get_table

signal.signal(signal.SIGTERM, lambda *_: end_waits())
connection = Connection(Deaf(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)), answer_seconds=600)
print("waiting", flush=True)
try:
    connection.ask(get_table("t"))
except NetlinkError as error:
    print(error.kind.name, flush=True)
"""


def test_sigterm_ends_a_wait():
    command = [sys.executable, "-c", textwrap.dedent(WAITS_FOR_EVER)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "waiting\n"
            time.sleep(0.2)
            os.kill(process.pid, signal.SIGTERM)
            assert process.communicate(timeout=60)[0] == "TIMED_OUT\n"
        finally:
            process.kill()


GENERATIONS = 7


@pytest.fixture
def notices(namespace):
    subscription = Subscription(namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER), [GENERATIONS], 1)
    yield subscription
    subscription.close()


def test_notifications_arrive_in_order(sock, notices):
    assert notices.receive(0.01).messages == []
    Connection(sock).transaction([new_table("t"), new_chain("t", "c")], NFT)
    kinds = []
    while found := notices.receive(0.1).messages:
        kinds += [message.kind & 0xFF for message in found]
    assert kinds == [0x00, 0x03, 0x0F], "table, chain, generation"


def test_an_overrun_is_reported_as_lost_notifications(sock, notices):
    connection = Connection(sock)
    connection.transaction([new_table("t")], NFT)
    for n in range(100):
        connection.transaction([new_chain("t", f"c{n}")], NFT)
    seen = [notices.receive(0.1) for _ in range(3)]
    assert any(each.lost for each in seen)
    while notices.receive(0.1).messages:
        pass
    connection.transaction([new_chain("t", "last")], NFT)
    assert notices.receive(1).messages, "it goes on"


def test_a_closed_subscription_ends_the_wait(namespace):
    subscription = Subscription(namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER), [GENERATIONS])
    subscription.close()
    assert subscription.receive() is None
    assert subscription.receive(1) is None
