"""Selects the endpoint set of a new client, by rule and source, and the next endpoint in it."""

from __future__ import annotations

import errno
import ipaddress
import socket
import time

from engine.backends.userspace.balancer import Balancer
from engine.backends.userspace.program import UserspaceProgram
from engine.backends.userspace.tables import Tables


class Routing:
    """Balancers over one family's tables, and networks parsed once."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._balancers: dict[str, Balancer] = {}
        self._pods: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
        self._allowed: dict[str, list[ipaddress.IPv4Network | ipaddress.IPv6Network]] = {}

    def update(self, program: UserspaceProgram) -> set[str]:
        """Update from the tables after a program; returns the targets removed from any set."""
        lost: set[str] = set()
        if program.complete:
            self._pods = ipaddress.ip_network(program.pods) if program.pods else None
            self._allowed.clear()
        for name, given in program.sets.items():
            balancer = self._balancers.get(name)
            if balancer is None:
                self._balancers[name] = Balancer(given)
            else:
                lost.update(set(balancer.given.targets).difference(given.targets))
                balancer.update(given)
        for name in self._balancers.keys() - program.sets if program.complete else program.sets_deleted:
            if name in self._balancers:
                lost.update(self._balancers.pop(name).given.targets)
        for name in program.allowed:
            self._allowed[name] = [ipaddress.ip_network(text) for text in self.tables.allowed.get(name, ())]
        return lost

    def choose(self, frontend: str, client: str) -> Balancer | None:
        """The endpoint set for this client, None if it is rejected."""
        rule = self.tables.rule_of(frontend)
        if rule is None or not self._may(frontend, client):
            return None
        name = rule.inside if rule.inside == rule.outside or self._is_inside(client) else rule.outside
        return self._balancers.get(name) if name else None

    def pick(self, frontend: str, client: str, again: bool = False) -> str | None:
        """The target for a new connection; `again`: the last one returned did not answer."""
        balancer = self.choose(frontend, client)
        if balancer is None:
            return None
        if again:
            balancer.forget(client)
        return balancer.pick(client, time.monotonic())

    def _may(self, frontend: str, client: str) -> bool:
        networks = self._allowed.get(frontend)
        if not networks:
            return True
        address = ipaddress.ip_address(client)
        return any(address in network for network in networks)

    def _is_inside(self, client: str) -> bool:
        """Whether the client is a pod, by its address, or this machine itself."""
        return (self._pods is not None and ipaddress.ip_address(client) in self._pods) or is_local(client)


def is_local(address: str) -> bool:
    """Whether the address is local: only then can it be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True
