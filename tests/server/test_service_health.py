"""Health check node ports by family: which listen where, and what each counts (HC-05, HC-05a)."""

from __future__ import annotations

import http.client
import socket

import pytest

from engine.config import ProxyConfig
from engine.model import Name
from engine.server.http.service_health import Check, ServiceHealth
from engine.server.runtime.daemon import health_check_addresses

SERVICE = Name("ns", "s1")
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
LOCAL = (socket.inet_aton("192.0.2.1"), socket.inet_pton(socket.AF_INET6, "2001:db8::1"))


class Events:
    """A recorder that keeps notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def event(self, _about: object, _kind: str, _reason: str, _action: str, note: str) -> None:
        self.notes.append(note)


@pytest.fixture
def health():
    opened = ServiceHealth("n1", lambda _family: ("",), Events(), lambda: True)
    yield opened
    opened.close()


def free_port() -> int:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        return listener.getsockname()[1]


def weight(port: int, family: int) -> int:
    connection = http.client.HTTPConnection(LOOPBACK[family], port, timeout=60)
    connection.request("GET", "/")
    return int(connection.getresponse().headers["X-Load-Balancing-Endpoint-Weight"])


def test_each_family_answers_with_its_own_count(health):
    port = free_port()
    health.sync({Check(SERVICE, 4): (port, 2), Check(SERVICE, 6): (port, 0)})
    assert (weight(port, 4), weight(port, 6)) == (2, 0)
    health.sync({Check(SERVICE, 6): (port, 5)})
    assert weight(port, 6) == 5
    with pytest.raises(ConnectionRefusedError):
        weight(port, 4)


def test_one_answer_for_both_families(health):
    port = free_port()
    health.sync({Check(SERVICE, None): (port, 3)})
    assert (weight(port, 4), weight(port, 6)) == (3, 3)


def test_a_family_whose_port_is_taken_does_not_stop_the_other(health):
    port = free_port()
    with socket.create_server(("0.0.0.0", port)):
        health.sync({Check(SERVICE, 4): (port, 1), Check(SERVICE, 6): (port, 1)})
        assert weight(port, 6) == 1
    assert len(health._recorder.notes) == 1
    health.sync({Check(SERVICE, 4): (port, 1), Check(SERVICE, 6): (port, 1)})
    assert weight(port, 4) == 1, "tried again at the next sync"


@pytest.mark.parametrize(
    ("blocks", "family", "expected"),
    [
        (None, None, ("",)),
        (None, 4, ("",)),
        (("192.0.2.0/24",), None, ("192.0.2.1", "2001:db8::1")),
        (("192.0.2.0/24",), 4, ("192.0.2.1",)),
        (("192.0.2.0/24",), 6, ("",)),
        (("198.51.100.0/24",), 4, ()),
    ],
)
def test_where_they_listen(blocks, family, expected):
    """A list that says nothing of a family leaves it open on all its addresses (HC-01, NP-02)."""
    assert health_check_addresses(ProxyConfig(node_port_addresses=blocks), LOCAL, family) == expected
