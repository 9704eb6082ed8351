"""The lab's namespaces, links and routes, as `ip -batch` scripts.

A pod is connected to its node by a veth pair without a bridge: all its packets are routed, so that both directions
are translated even if two pods share a node.  Its gateway is an unused link-local address, with a static neighbour
entry for the node's end.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from harness.lab.dataplane.private_run import make_private_run
from harness.lab.topology import (
    API_ADDRESS,
    BALANCER_ADDRESS,
    CLIENT,
    CLIENT_ADDRESS,
    CLIENT_GATEWAY,
    CLIENT_PREFIX,
    WIRE,
    LabNode,
)
from harness.places import commands

_GATEWAY, _NODE_LINK = "169.254.1.1", "ee:ee:ee:ee:ee:ee"
_ROUTER_SYSCTLS = ("net.ipv4.ip_forward=1", "net.ipv4.fib_multipath_hash_policy=1")
_BY_HEADERS = ("net.ipv4.fib_multipath_hash_policy=3", "net.ipv4.fib_multipath_hash_fields=0x37")
"""Since Linux 5.14.  Policy 1 trusts the hash that a local socket left in the packet, which TCP changes for each
retransmitted SYN: the balancer would send one connection to two nodes."""
_NODE_SYSCTLS = (
    "net.ipv4.ip_forward=1",
    "net.ipv4.conf.all.send_redirects=0",
    "net.ipv4.conf.default.send_redirects=0",
)
_NO_LINK_LOCAL = "net.ipv6.conf.default.addr_gen_mode=1"
"""A node has the addresses of its Node object, in both families."""
_CLIENT_SYSCTLS = ("net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1")
"""A client that opens thousands of connections per second must not run out of ports."""
_CLONE_NEWNET = 0x40000000
_NETNS = "/run/netns"


class NetworkError(RuntimeError):
    """A command to build or change the network failed; the message contains its output."""


def build(nodes: tuple[LabNode, ...]) -> None:
    """Create the router (this namespace), the client, the nodes and the caller of each."""
    make_private_run()
    _must(["sysctl", "-qw", *_ROUTER_SYSCTLS])
    run(None, ["sysctl", "-qw", *_BY_HEADERS])
    names = [CLIENT, *(n.name for n in nodes)]
    _batch([f"netns add {name}" for name in names])
    _batch(["link set lo up", "link add wire type bridge", f"addr add {API_ADDRESS}/{WIRE.prefixlen} dev wire",
            "link set wire up", *_client_links()])  # fmt: skip
    _batch([*_up("eth0"), f"addr add {CLIENT_ADDRESS}/{CLIENT_PREFIX} dev eth0",
            f"route add default via {CLIENT_GATEWAY}"], CLIENT)  # fmt: skip
    for node in nodes:
        _add_node(node)
        add_pod(node, node.caller, node.caller_address)
    for name in (CLIENT, *(node.caller for node in nodes)):
        _must(["sysctl", "-qw", *_CLIENT_SYSCTLS], name)
    _batch([f"route add {node.pod_network} via {node.address}" for node in nodes])
    for node in nodes:
        _batch([f"route add {n.pod_network} via {n.address}" for n in nodes if n != node], node.name)
    balance(nodes)


def _client_links() -> list[str]:
    return [f"link add outside type veth peer name eth0 netns {CLIENT}", "link set outside up",
            f"addr add {CLIENT_GATEWAY}/{CLIENT_PREFIX} dev outside"]  # fmt: skip


def _up(*devices: str) -> list[str]:
    return [f"link set {device} up" for device in ("lo", *devices)]


def _add_node(node: LabNode) -> None:
    link = f"w-{node.name}"
    run(node.name, ["sysctl", "-qw", _NO_LINK_LOCAL])  # before its links; without IPv6 there is none
    _batch([f"link add {link} type veth peer name eth0 netns {node.name}", f"link set {link} master wire up"])
    _must(["sysctl", "-qw", *_NODE_SYSCTLS], node.name)
    routes = [f"route add default via {API_ADDRESS}"]
    _batch([*_up("eth0"), f"addr add {node.address}/{WIRE.prefixlen} dev eth0", *routes], node.name)


def add_pod(node: LabNode, name: str, address: str) -> None:
    """Create a namespace on the node, with the given name and address."""
    link = f"v-{address.rpartition('.')[2]}"
    _batch([f"netns add {name}"])
    _batch([f"link add {link} address {_NODE_LINK} type veth peer name eth0 netns {name}", f"link set {link} up",
            f"route add {address}/32 dev {link}"], node.name)  # fmt: skip
    _batch([*_up("eth0"), f"addr add {address}/32 dev eth0", f"route add {_GATEWAY} dev eth0 scope link",
            f"neigh add {_GATEWAY} lladdr {_NODE_LINK} dev eth0 nud permanent", f"route add default via {_GATEWAY}"],
           name)  # fmt: skip


def remove_pod(name: str) -> None:
    """Remove the namespace and, with it, both ends of its link."""
    _batch([f"netns delete {name}"])


def balance(nodes: Iterable[LabNode]) -> None:
    """Distribute the load balancer's address over these nodes per flow; without nodes it is unreachable."""
    hops = " ".join(f"nexthop via {node.address}" for node in nodes)
    _batch([f"route replace {BALANCER_ADDRESS}/32 {hops}" if hops else f"route del {BALANCER_ADDRESS}/32"])


def set_wire(node: str, up: bool) -> None:
    """Connect the node to the wire or disconnect it; its own links, routes and rules are kept."""
    _batch([f"link set w-{node} {'up master wire' if up else 'nomaster'}"])


def inside(namespace: str, command: list[str]) -> list[str]:
    """The command line that runs a command in a namespace."""
    return ["ip", "netns", "exec", namespace, *command]


def run(namespace: str | None, command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run in a namespace (None is the router) and capture the output."""
    return commands.run(command, stdin, inside(namespace, []) if namespace else ())


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """Sockets created by this thread within the context belong to the namespace; must not be held across an await."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"{_NETNS}/{namespace}", os.O_RDONLY)
    try:
        _setns(libc, there)
        try:
            yield
        finally:
            _setns(libc, home)
    finally:
        os.close(home)
        os.close(there)


def make_socket(namespace: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A non-blocking IPv4 socket in a namespace."""
    with entered(namespace):
        made = socket.socket(socket.AF_INET, kind)
    made.setblocking(False)
    return made


def _setns(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns refused the namespace")


def _batch(lines: list[str], namespace: str | None = None) -> None:
    where = ["-n", namespace] if namespace else []
    _must(["ip", *where, "-batch", "-"], stdin="".join(f"{line}\n" for line in lines).encode())


def _must(command: list[str], namespace: str | None = None, stdin: bytes = b"") -> None:
    done = run(namespace, command, stdin)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()
        raise NetworkError(f"`{' '.join(command)}` in {namespace or 'the router'}: {words} {stdin.decode()!r}")
