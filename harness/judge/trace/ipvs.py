"""Traces one packet through IP_VS, its ipsets and iptables rules, in the kernel's order.

    from elsewhere:  nat PREROUTING -> [on the node] filter INPUT -> IP_VS -> filter OUTPUT -> POSTROUTING
                                    -> [not on it]   filter FORWARD
    from the node:   nat OUTPUT -> IP_VS -> filter OUTPUT -> POSTROUTING
                                -> [no virtual server, on the node] filter INPUT

The scheduler may choose any destination with a weight above 0; a client of a persistent virtual server
keeps its destination, by the tracer's own clock.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, NamedTuple

from harness.judge.behaviour import PROTOCOL_NAMES, PROTOCOL_NUMBERS, socket_text
from harness.judge.packet import Outcome, Packet, Trace
from harness.judge.readback.ipvs import Read, endpoint
from harness.judge.trace.iptables_rules import MatchState, PacketHeader, Rule, marked, read_rule

Server = tuple[bytes, int, int]
_SERVICE_FLAGS = {"-t": "tcp", "-u": "udp", "--sctp-service": "sctp"}
_REFUSED = {"DROP": "drop", "REJECT": "reject"}
_ENDS = {"ACCEPT", "RETURN", *_REFUSED}
_DEPTH = 16

Weights = dict[tuple[bytes, int], int]


class IpvsTracer:
    """The state of one family from text: printed programs, or the output of the tools' `save`."""

    def __init__(self, family: int, local_addresses: frozenset[bytes] = frozenset()) -> None:
        self.now = 0.0
        self._family = family
        self._local = local_addresses
        self._read = Read()
        self._types: dict[str, str] = {}
        self._chains: dict[tuple[str, str], list[Rule]] = {}
        self._table = ""
        self._clients: dict[tuple[Server, bytes], tuple[float, tuple[bytes, int]]] = {}

    def feed(self, text: str) -> None:
        """Apply one text line by line; ValueError for a rule that cannot be parsed."""
        for line in text.splitlines():
            words = line.split()
            if not words or line.startswith("#") or words[0] == "COMMIT" or words[1:2] == ["="]:
                continue
            if words[0] in ("create", "add", "del", "flush"):
                self._feed_set(words)
            elif words[0] in ("address", "link"):
                self._feed_address(words)
            elif line.startswith(("*", ":")) or not words[1].startswith("-"):
                self._feed_rule(line, words)
            elif words[0] != "--set":
                self._feed_server(words)

    def _feed_set(self, words: list[str]) -> None:
        verb, name = words[:2]
        if verb == "create":
            self._types[name] = words[2]
            self._read.sets.setdefault(name, set())
        elif verb == "flush":
            self._read.sets[name].clear()
        else:
            (self._read.sets[name].add if verb == "add" else self._read.sets[name].discard)(words[2])

    def _feed_address(self, words: list[str]) -> None:
        if words[0] == "address":
            address = ipaddress.ip_address(words[2].split("/")[0]).packed
            (self._read.addresses.add if words[1] == "add" else self._read.addresses.discard)(address)

    def _feed_rule(self, line: str, words: list[str]) -> None:
        if line.startswith("*"):
            self._table = line[1:].strip()
        elif line.startswith(":"):
            self._chains[self._table, words[0][1:]] = []
        elif words[0] == "-A":
            self._chains.setdefault((self._table, words[1]), []).append(read_rule(line))
        elif words[0] == "-I":
            rule = read_rule(line.replace("-I", "-A", 1))
            self._chains.setdefault((self._table, words[1]), []).insert(0, rule)
        else:
            raise ValueError(f"iptables line is not known: {line}")

    def _feed_server(self, words: list[str]) -> None:
        verb = words[0]
        address, port = endpoint(words[2])
        server = (address, PROTOCOL_NUMBERS[_SERVICE_FLAGS[words[1]]], port)
        if verb in ("-A", "-E"):
            self._read.servers.setdefault(server, {})
            self._read.options[server] = " ".join(words[3:])
        elif verb == "-D":
            del self._read.servers[server], self._read.options[server]
        else:
            target = endpoint(words[words.index("-r") + 1])
            if verb == "-d":
                del self._read.servers[server][target]
            else:
                self._read.servers[server][target] = int(words[words.index("-w") + 1])

    def trace(self, packet: Packet) -> Trace:
        """Every destination that the packet may be sent to."""
        return _Walk(self, packet).run()

    def connect(self, packet: Packet, index: int = 0) -> Outcome:
        """One connection, to its client's previous destination, or to the one at `index` modulo their count."""
        outcome = self.trace(packet).outcome
        if outcome.kind != "dnat":
            return outcome
        server = (packet.destination, packet.protocol, packet.port)
        ends = sorted(outcome.endpoints)
        chosen = ends[index % len(ends)]
        seconds = self.persistent_seconds(server)
        if seconds:
            expires, before = self._clients.get((server, packet.source), (0.0, chosen))
            chosen = before if expires > self.now and before in ends else chosen
            self._clients[server, packet.source] = (self.now + seconds, chosen)
        return outcome._replace(endpoints=frozenset([chosen]))

    def persistent_seconds(self, server: Server) -> int:
        """How long a virtual server keeps a client's destination; 0 if it is not persistent."""
        found = re.search(r"-p (\d+)", self._read.options[server])
        return int(found[1]) if found else 0

    def facts(self) -> dict[str, Any]:
        """Virtual servers and ipset entries in the form that cases assert."""
        names = {s: f"{socket_text(s[0], s[2])}/{PROTOCOL_NAMES[s[1]].upper()}" for s in self._read.servers}
        return {
            "virtual_servers": {n: sorted(socket_text(*t) for t in self._read.servers[s]) for s, n in names.items()},
            "ipsets": {name: sorted(entries) for name, entries in self._read.sets.items()},
            "vs_timeout": {name: self.persistent_seconds(server) for server, name in names.items()},
            "vs_flags": {name: self._flags(server) for server, name in names.items()},
        }

    def _flags(self, server: Server) -> list[str]:
        """Names of the flags of a virtual server."""
        options = self._read.options[server].split()
        return [name for option, name in {"-p": "persistent", "-b": "scheduler flags"}.items() if option in options]

    def is_local(self, address: bytes) -> bool:
        """Whether the node owns an address, including those of the dummy device."""
        return address in self._local or address in self._read.addresses

    def rules(self, table: str, chain: str) -> list[Rule]:
        """A chain's rules; an absent built-in chain has none."""
        return self._chains.get((table, chain), [])

    def server(self, header: PacketHeader) -> tuple[Server, Weights] | None:
        """The virtual server for a packet, with its destinations' weights."""
        server = (header.destination, header.protocol, header.port)
        return (server, self._read.servers[server]) if server in self._read.servers else None

    def server_text(self, server: Server) -> str:
        """The server in the format of `ipvsadm -Sn`."""
        flag = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}[PROTOCOL_NAMES[server[1]]]
        return f"ipvs: -A {flag} {socket_text(server[0], server[2])} {self._read.options[server]}"

    def holds(self, name: str, directions: str, header: PacketHeader) -> bool:
        """Whether a set contains the packet, with each dimension from the source or the destination."""
        if name not in self._read.sets:
            raise ValueError(f"a rule matches set {name}, which does not exist")
        sides = directions.split(",")
        kinds = self._types[name].partition(":")[2].split(",")
        address = {"src": header.source, "dst": header.destination}
        parts = []
        for kind, side in zip(kinds, sides, strict=True):
            if kind == "port":
                # A source port never matches a set: clients use ports outside it.
                number = header.port if side == "dst" else 0
                parts.append(str(number) if kinds == ["port"] else f"{PROTOCOL_NAMES[header.protocol]}:{number}")
            else:
                parts.append(str(ipaddress.ip_address(address[side])))
        entries = self._read.sets[name]
        if kinds[-1] != "net":
            return ",".join(parts) in entries
        source, head = ipaddress.ip_address(parts[-1]), ",".join(parts[:-1]) + ","
        return any(source in ipaddress.ip_network(e[len(head) :]) for e in entries if e.startswith(head))


class _Done(NamedTuple):
    """A verdict that ends the hook, and the packet at that point."""

    verdict: str
    header: PacketHeader


class _Walk:
    """One packet; `steps` are the matching rules in order."""

    def __init__(self, tracer: IpvsTracer, packet: Packet) -> None:
        self._tracer = tracer
        self._packet = packet
        self._steps: dict[str, None] = {}

    def run(self) -> Trace:
        packet, tracer = self._packet, self._tracer
        header = PacketHeader(
            packet.source, packet.destination, packet.protocol, packet.port, packet.interface, 0,
            packet.source_local or tracer.is_local(packet.source),
            packet.destination_local or tracer.is_local(packet.destination),
        )  # fmt: skip
        header = self._hook("nat", "OUTPUT" if packet.source_local else "PREROUTING", header).header
        return Trace(self._deliver(header), tuple(self._steps))

    def _deliver(self, header: PacketHeader) -> Outcome:
        """From the routing decision on."""
        from_node = self._packet.source_local
        if not from_node and not header.destination_local:
            return Outcome(_REFUSED.get(self._hook("filter", "FORWARD", header).verdict, "no-op"))
        if not from_node:
            refused = _REFUSED.get(self._hook("filter", "INPUT", header).verdict)
            if refused:
                return Outcome(refused)
        taken = self._tracer.server(header)
        if taken:
            return self._balance(header, *taken)
        hooks = ["OUTPUT", "INPUT"] if from_node and header.destination_local else ["OUTPUT"] if from_node else []
        for hook in hooks:
            refused = _REFUSED.get(self._hook("filter", hook, header).verdict)
            if refused:
                return Outcome(refused)
        return Outcome("no-op")

    def _balance(self, header: PacketHeader, server: Server, weights: Weights) -> Outcome:
        """Handled by IP_VS: refused without destinations, else sent on through OUTPUT and POSTROUTING."""
        targets = sorted(target for target, weight in weights.items() if weight)
        text = self._tracer.server_text(server)
        if not targets:
            self._steps[f"{text}    no destination"] = None
            return Outcome("reject")
        self._steps[f"{text}    -r {', '.join(socket_text(*target) for target in targets)}"] = None
        masqueraded = False
        for address, port in targets:
            sent = header._replace(destination=address, port=port, virtual=server, destination_local=False)
            refused = _REFUSED.get(self._hook("filter", "OUTPUT", sent).verdict)
            if refused:
                return Outcome(refused)
            masqueraded |= self._hook("nat", "POSTROUTING", sent).verdict == "MASQUERADE"
        return Outcome("dnat", frozenset(targets), masqueraded)

    def _hook(self, table: str, chain: str, header: PacketHeader) -> _Done:
        return self._chain(table, chain, header, 0) or _Done("ACCEPT", self._header)

    def _chain(self, table: str, chain: str, header: PacketHeader, depth: int) -> _Done | None:
        """The verdict of a chain, None if it ended without one or by RETURN; updates `_header`."""
        if depth > _DEPTH:
            raise ValueError(f"chains of table {table} form a loop at {chain}")
        self._header = header
        for rule in self._tracer.rules(table, chain):
            if not rule.holds(self._header, MatchState(in_set=self._tracer.holds)):
                continue
            self._steps[f"{table}: {rule.text}"] = None
            if rule.target == "RETURN":
                return None
            if rule.target == "MARK":
                self._header = marked(self._header, rule.argument)
            elif rule.target in _ENDS or rule.target == "MASQUERADE":
                return _Done(rule.target, self._header)
            elif rule.target:
                done = self._chain(table, rule.target, self._header, depth + 1)
                if done:
                    return done
        return None


def tracer(family: int, local_addresses: frozenset[bytes]) -> IpvsTracer:
    """A tracer, initially without rules."""
    return IpvsTracer(family, local_addresses)
