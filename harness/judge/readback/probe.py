"""Connects to a sample of Services with real packets, only inside the throwaway namespace.

Endpoints' addresses are temporarily added to loopback with a listener on each, and a client connects
to the Service's address: it must arrive at one of the expected endpoints, or be refused at once if a
refusal is expected.
"""

from __future__ import annotations

import ipaddress
import selectors
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from subprocess import CompletedProcess

from harness.judge.behaviour import PROTOCOL_NAMES, Behaviour, Destination

TCP, UDP = 6, 17
SAMPLE = 24
OUTLET = "probe-outlet"
"""A bridge without ports: if loopback were the egress interface, ICMP errors would be lost."""
LARGEST = 32
"""Destinations with more endpoints are only read back, as each endpoint needs a listener."""
TIMEOUT_SECONDS = 2.0
TRIES = 2

CLIENTS: dict[int, str] = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Source of the connections: documentation addresses (RFC 5737, RFC 3849), neither pod nor node."""

_KIND = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}

Key = tuple[bytes, int, int]
MakeSocket = Callable[[int, int, int], socket.socket]
Run = Callable[[list[str], bytes], CompletedProcess[bytes]]


def probe(make_socket: MakeSocket, run: Run, behaviour: Behaviour, own: frozenset[bytes]) -> tuple[int, list[str]]:
    """The number of attempted connections, and a line for each with a wrong result, per family.

    `own` are the node's addresses: a load balancer's may be one of them, and nobody else adds it to this namespace.
    """
    chosen = _sample(behaviour.destinations)
    if not chosen:
        return 0, []
    family = socket.AF_INET if len(chosen[0][0][0]) == 4 else socket.AF_INET6
    targets = {(key[1], *target) for key, destination in chosen for target in _targets(destination)}
    problems = []
    needed = {address for _, address, _ in targets} | own.intersection(address for (address, _, _), _ in chosen)
    with _addresses(run, family, needed), ExitStack() as stack:
        ready = stack.enter_context(selectors.DefaultSelector())
        for target in sorted(targets):
            listener = stack.enter_context(_listener(make_socket, family, target))
            ready.register(listener, selectors.EVENT_READ, (listener, target))
        for key, destination in chosen:
            for _ in range(TRIES):
                problems += _judge(key, destination, _connect(make_socket, family, key, ready))
    return TRIES * len(chosen), problems


def _targets(destination: Destination) -> frozenset[tuple[bytes, int]]:
    return destination.node[1] if destination.node[0] == "dnat" else frozenset()


def _listener(make_socket: MakeSocket, family: int, target: tuple[int, bytes, int]) -> socket.socket:
    protocol, address, port = target
    listener = make_socket(family, _KIND[protocol], 0)
    # The previous probe left connections from this address in TIME_WAIT.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((_text(address), port))
    if protocol == TCP:
        listener.listen(8)
    return listener


def _judge(key: Key, destination: Destination, seen: tuple[int, bytes, int] | str) -> list[str]:
    """A line if the connection's result is wrong."""
    targets = _targets(destination)
    fine = seen == "refused" if not targets else not isinstance(seen, str) and seen[1:] in targets
    if fine:
        return []
    where = seen if isinstance(seen, str) else f"arrived at {_text(seen[1])} port {seen[2]}"
    wanted = f"arrive at one of {len(targets)} endpoints" if targets else "be refused"
    return [f"{_text(key[0])} {PROTOCOL_NAMES[key[1]]}/{key[2]}: a connection {where}, it should {wanted}"]


def _sample(destinations: dict[Key, Destination]) -> list[tuple[Key, Destination]]:
    """Spread evenly over all TCP and UDP destinations that are open to all clients."""
    fit = sorted(key for key, destination in destinations.items() if key[1] in (TCP, UDP) and _fits(destination))
    step = max(1, len(fit) // SAMPLE)
    return [(key, destinations[key]) for key in fit[::step][:SAMPLE]]


def _fits(destination: Destination) -> bool:
    outcome = destination.node
    fits = outcome[0] == "reject" or (outcome[0] == "dnat" and len(outcome[1]) <= LARGEST)
    return destination.allowed is None and fits


def _connect(
    make_socket: MakeSocket, family: int, key: Key, ready: selectors.BaseSelector
) -> tuple[int, bytes, int] | str:
    """The target at which one connection arrived, `refused` or `timed out`."""
    address, protocol, port = key
    with make_socket(family, _KIND[protocol], 0) as client:
        client.settimeout(TIMEOUT_SECONDS)
        client.bind((CLIENTS[family], 0))
        try:
            client.connect((_text(address), port))
            if protocol == UDP:
                client.send(b"probe")
            ready.register(client, selectors.EVENT_READ)
            try:
                return _arrival(ready, client, protocol)
            finally:
                ready.unregister(client)
        except (ConnectionRefusedError, ConnectionResetError, PermissionError):
            return "refused"
        except TimeoutError:
            return "timed out"
        except OSError as error:  # for example no route: the effect of a wrong rule is a result too
            return f"failed ({error.strerror})"


def _arrival(ready: selectors.BaseSelector, client: socket.socket, protocol: int) -> tuple[int, bytes, int]:
    """The target whose listener received it; a refusal appears as an error of the client's next call.

    With forwarding in the kernel either is immediate; a userspace proxy takes a moment, and resets what it refuses.
    """
    for key, _ in ready.select(TIMEOUT_SECONDS):
        if key.fileobj is client:
            continue
        listener: socket.socket
        target: tuple[int, bytes, int]
        listener, target = key.data
        if protocol == TCP:
            listener.accept()[0].close()
        else:
            listener.recv(64)
        return target
    client.setblocking(False)
    with suppress(BlockingIOError):
        client.recv(1)
    raise TimeoutError


@contextmanager
def _addresses(run: Run, family: int, addresses: set[bytes]) -> Iterator[None]:
    """Temporary addresses on loopback, and a default route for everything else."""
    version, width, suffix = ("-4", 32, "") if family == socket.AF_INET else ("-6", 128, " nodad")
    wanted = [f"{CLIENTS[family]}/{width} dev {OUTLET}"]
    wanted += [f"{_text(address)}/{width} dev lo" for address in sorted(addresses)]
    lines = [f"link add {OUTLET} type bridge", f"link set {OUTLET} up"]
    lines += [f"addr add {each}{suffix}" for each in wanted] + [f"route add default dev {OUTLET}"]
    run(["ip", version, "-batch", "-"], "\n".join(lines).encode())
    try:
        yield
    finally:
        undo = [f"addr del {each}" for each in wanted] + [f"link del {OUTLET}"]
        run(["ip", version, "-batch", "-"], "\n".join(undo).encode())


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))
