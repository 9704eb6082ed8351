"""The proxy's state: a fold over programs, the same in the proxy process and in memory."""

from __future__ import annotations

from collections.abc import Iterable

from engine.backends.userspace.program import NODE, EndpointSet, Rule, UserspaceProgram, host_name


class Tables:
    """One family's frontends, endpoint sets and addresses."""

    def __init__(self, family: int) -> None:
        self.family = family
        self._clear()

    def _clear(self) -> None:
        self.pods = ""
        self.node_addresses: tuple[str, ...] = ()
        self.addresses: set[str] = set()
        self.sets: dict[str, EndpointSet] = {}
        self.rules: dict[str, Rule] = {}
        self.allowed: dict[str, tuple[str, ...]] = {}

    def apply(self, program: UserspaceProgram) -> set[str]:
        """Apply a program; returns the names of sockets that may have to be opened or closed."""
        touched = self.sockets() if program.complete else set()
        if program.complete:
            self._clear()
        touched |= {
            socket for name in program.rules.keys() | program.rules_deleted for socket in self._sockets_of(name)
        }
        if program.pods is not None:
            self.pods = program.pods
        if program.node_addresses is not None:
            before, self.node_addresses = self.node_addresses, program.node_addresses
            ports = [name for name in self.rules.keys() | program.rules if name.startswith(NODE)]
            touched |= {_at(host, name) for host in {*before, *self.node_addresses} for name in ports}
        self.addresses.update(program.addresses_added)
        self.addresses.difference_update(program.addresses_deleted)
        self.sets.update(program.sets)
        self.rules.update(program.rules)
        for name, sources in program.allowed.items():
            if sources:
                self.allowed[name] = sources
            else:
                self.allowed.pop(name, None)
        for name in program.rules_deleted:
            self.rules.pop(name, None)
        for name in program.sets_deleted:
            self.sets.pop(name, None)
        return touched

    def rule_of(self, socket: str) -> Rule | None:
        """The rule of a socket: its own, else that of the node port, else None."""
        rule = self.rules.get(socket)
        if rule is None and any(socket.startswith(f"{host_name(a)}:") for a in self.node_addresses):
            rule = self.rules.get(NODE + socket[socket.rindex(":") :])
        return rule

    def wants(self, socket: str) -> bool:
        """Whether the socket must be open, as some clients are allowed; otherwise the port is closed."""
        rule = self.rule_of(socket)
        return rule is not None and bool(rule.inside or rule.outside)

    def sockets(self) -> set[str]:
        """All sockets that must be open."""
        return {socket for name in self.rules for socket in self._sockets_of(name) if self.wants(socket)}

    def everything(self) -> UserspaceProgram:
        """The program that creates these tables from nothing."""
        return UserspaceProgram(
            family=self.family,
            pods=self.pods,
            node_addresses=self.node_addresses,
            addresses_added=tuple(sorted(self.addresses)),
            sets=dict(sorted(self.sets.items())),
            rules=dict(sorted(self.rules.items())),
            allowed=dict(sorted(self.allowed.items())),
        )

    def _sockets_of(self, name: str) -> Iterable[str]:
        return [_at(host, name) for host in self.node_addresses] if name.startswith(NODE) else [name]


def _at(host: str, name: str) -> str:
    """The socket of a node port on one node address."""
    return host_name(host) + name[len(NODE) :]
