"""From the rules of iptables, read back, to behaviour: kube-proxy's own shapes, each read by hand.

    iptables-save -> Tables -> meaning() -> Behaviour

A chain of a Service is walked for each kind of client: what tells pods apart is a match on the source or
on the interface, what tells the node is `--src-type LOCAL`.  Whatever else such a chain holds, chances
that do not add up, and chains that nothing leads to raise ValueError.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from harness.behaviour import Behaviour, Destination
from harness.check.iptables_text import Tables

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
CLIENTS = POD, NODE, EXTERNAL = range(3)
OWN = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-")
"""What the names of chains begin with that belong to one service port or endpoint."""
_MARK = "KUBE-MARK-MASQ"
_REFUSALS = {"REJECT": ("reject",), "DROP": ("drop",)}
_CHANCE_ERROR = 1e-8
"""The kernel keeps a chance in 31 bits, and texts have ten digits."""

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
_SILENT = {"-m": 1, "--comment": 1, "--mask": 1, "--rsource": 0, "--reap": 0, "--mode": 1, "--reject-with": 1}
_FLAGS = {"--set", "--rcheck"}

Key = tuple[bytes, int, int]
Options = dict[str, str]
"""Options of one rule with their values; a negated one is `! -s`."""


class _Balanced(NamedTuple):
    """What a chain of endpoints leads to, and for whom a packet to the cluster IP is marked on the way."""

    targets: frozenset[tuple[bytes, int]]
    affinity_seconds: int
    marked: tuple[bool, bool, bool]


class _Way(NamedTuple):
    """Where a chain sends one client: a chain of endpoints or None, and whether it is marked."""

    balanced: _Balanced | None
    marked: bool


def meaning(tables: Tables) -> Behaviour:
    """The behaviour of one family's rules; ValueError where they are not what a proxy writes."""
    return _Reading(tables).behaviour()


def options_of(line: str) -> Options:
    """`-A CHAIN -s 10.0.0.0/8 ... -j TARGET --option value` as its options; ValueError for a lost word."""
    words = iter(_WORD.findall(line) if '"' in line else line.split())
    next(words), next(words)
    found: Options = {}
    negation = ""
    for word in words:
        if word == "!":
            negation = "! "
        elif word in _SILENT:
            for _ in range(_SILENT[word]):
                next(words)
        elif word in _FLAGS:
            found[word] = ""
        elif word[0] == "-":
            found[negation + word] = next(words)
            negation = ""
        else:
            raise ValueError(f"{word!r} makes no sense in {line}")
    return found


class _Reading:
    """Rules of one family while they are read."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._reached: set[str] = set()
        self._ways = cache(self._ways_of)
        self._balanced = cache(self._balanced_of)

    def behaviour(self) -> Behaviour:
        """Everything, translation first and then what the filter table does to the rest."""
        destinations: dict[Key, Destination] = {}
        nodeports: dict[tuple[int, int], Destination] = {}
        taking = self._services(destinations)
        for options in self._rules("nat", "KUBE-NODEPORTS"):
            nodeports.setdefault(_port_of(options), self._translated(options["-j"]))
        self._firewall(destinations)
        self._refusals("KUBE-SERVICES", destinations, nodeports, CLIENTS)
        self._refusals("KUBE-EXTERNAL-SERVICES", destinations, nodeports, (POD, EXTERNAL))
        self._nothing_leaked()
        return Behaviour(destinations, nodeports, frozenset(), taking)

    def _rules(self, table: str, chain: str) -> Iterator[Options]:
        return map(options_of, self._tables.rules(table, chain))

    def _services(self, destinations: dict[Key, Destination]) -> frozenset[bytes] | None:
        """Addresses and ports of Services; the addresses that take node ports, None for every local one."""
        taking: set[bytes] | None = set()
        for options in self._rules("nat", "KUBE-SERVICES"):
            if options["-j"] != "KUBE-NODEPORTS":
                destinations.setdefault(
                    (_network(options["-d"])[0], *_port_of(options)), self._translated(options["-j"])
                )
            elif "--dst-type" in options:
                taking = None
            elif taking is not None:
                taking.add(_network(options["-d"])[0])
        return None if taking is None else frozenset(taking)

    def _translated(self, chain: str) -> Destination:
        """What a jump to a Service's chain does to each client; ways that end in nothing stay `none`."""
        allowed = None
        if chain.startswith("KUBE-FW-"):
            self._reached.add(chain)
            chain, allowed = self._allowed(chain)
        ways = self._ways(chain)
        outcomes = [("dnat", way.balanced.targets) if way.balanced else ("none",) for way in ways]
        seconds = max((way.balanced.affinity_seconds for way in ways if way.balanced), default=0)
        return Destination(*outcomes, allowed, tuple(way.marked and way.balanced is not None for way in ways), seconds)

    def _allowed(self, chain: str) -> tuple[str, frozenset[tuple[bytes, bytes]]]:
        """The chain behind source ranges, and these."""
        behind, networks = set(), []
        for options in self._rules("nat", chain):
            if "-j" in options:
                behind.add(options.pop("-j"))
                networks.append(options.pop("-s", None))
            _nothing_else(options, chain)
        if len(behind) != 1:
            raise ValueError(f"chain {chain} leads to {sorted(behind)}, which should be one chain")
        size = len(next((_network(n)[0] for n in networks if n), b"\0\0\0\0"))
        everything = (bytes(size), b"\xff" * size)
        return behind.pop(), frozenset(_network(n) if n else everything for n in networks)

    def _ways_of(self, chain: str) -> tuple[_Way, _Way, _Way]:
        """Where a chain sends a pod, the node and an external client."""
        self._reached.add(chain)
        if not chain.startswith("KUBE-EXT-"):
            balanced = self._balanced(chain)
            return tuple(_Way(balanced, marked) for marked in balanced.marked)
        rules = list(self._rules("nat", chain))
        return tuple(self._external_way(chain, rules, client) for client in CLIENTS)

    def _external_way(self, chain: str, rules: list[Options], client: int) -> _Way:
        marked = False
        for options in rules:
            if not _is_for(options, client, chain):
                continue
            if options["-j"] != _MARK:
                self._reached.add(options["-j"])
                return _Way(self._balanced(options["-j"]), marked)
            marked = True
        return _Way(None, marked)

    def _balanced_of(self, chain: str) -> _Balanced:
        """A chain that marks packets to the cluster IP, then sends known clients back, then draws."""
        drawn: list[tuple[str, float]] = []
        kept: dict[str, int] = {}
        marked = [False, False, False]
        for options in self._rules("nat", chain):
            target = options.pop("-j")
            if target == _MARK:
                for key in ("-d", "-p", "--dport"):
                    del options[key]
                for client in CLIENTS:
                    marked[client] |= _is_for(options, client, chain)
            elif "--rcheck" in options:
                if options.pop("--name") != target:
                    raise ValueError(f"chain {chain}: clients of {target} are looked for elsewhere")
                kept[target] = int(options.pop("--seconds"))
            else:
                drawn.append((target, float(options.pop("--probability", 1))))
                _nothing_else(options, chain)
        self._fair(chain, drawn)
        return _Balanced(self._endpoints(chain, drawn, kept), max(kept.values(), default=0), tuple(marked))

    @staticmethod
    def _fair(chain: str, drawn: list[tuple[str, float]]) -> None:
        """ValueError unless everyone has the same chance (CIP-01)."""
        left = len(drawn)
        if not left or any(abs(chance - 1 / (left - i)) > _CHANCE_ERROR for i, (_, chance) in enumerate(drawn)):
            raise ValueError(f"chain {chain} is unfair: chances {[chance for _, chance in drawn][:9]}")

    def _endpoints(self, chain: str, drawn: list[tuple[str, float]], kept: dict[str, int]) -> frozenset:
        """Targets of a chain; with affinity each of them has to remember and be looked for (AFF-02)."""
        names = [name for name, _ in drawn]
        if kept and (kept.keys() != set(names) or len(set(kept.values())) > 1):
            raise ValueError(f"chain {chain} keeps clients of {sorted(kept)}, and draws among {sorted(names)}")
        found = set()
        for name in names:
            self._reached.add(name)
            target, remembers = self._endpoint(name)
            if remembers != bool(kept):
                raise ValueError(f"chain {chain} and endpoint {name} differ about session affinity")
            found.add(target)
        if len(found) != len(names):
            raise ValueError(f"chain {chain} has an endpoint twice")
        return frozenset(found)

    def _endpoint(self, chain: str) -> tuple[tuple[bytes, int], bool]:
        """The target of an endpoint's chain, which marks hairpins first (HAIR-01), and whether it remembers."""
        rules = list(self._rules("nat", chain))
        if len(rules) != 2:
            raise ValueError(f"chain {chain} has {len(rules)} rules, an endpoint's has two")
        hairpin, translation = rules
        address, _, port = translation["--to-destination"].rpartition(":")
        packed = _address(address.strip("[]"))
        if hairpin["-j"] != _MARK or _network(hairpin["-s"]) != (packed, packed):
            raise ValueError(f"chain {chain} does not mark what its endpoint sends to itself")
        if translation.get("--name", chain) != chain:
            raise ValueError(f"chain {chain} remembers clients under another name")
        return (packed, int(port)), "--set" in translation

    def _firewall(self, destinations: dict[Key, Destination]) -> None:
        """Addresses with source ranges are those that the filter table drops when not translated (LB-03)."""
        dropped = set()
        for options in self._rules("filter", "KUBE-PROXY-FIREWALL"):
            dropped.add((_network(options["-d"])[0], *_port_of(options)))
        restricted = {key for key, destination in destinations.items() if destination.allowed is not None}
        if dropped != restricted:
            raise ValueError(f"source ranges and KUBE-PROXY-FIREWALL differ: {sorted(dropped ^ restricted)[:5]}")

    def _refusals(self, chain: str, destinations: dict, nodeports: dict, clients: tuple[int, ...]) -> None:
        """What the filter table refuses of that which was not translated, for clients that meet the chain."""
        for options in self._rules("filter", chain):
            outcome = _REFUSALS[options["-j"]]
            if "-d" in options:
                _refuse(destinations, (_network(options["-d"])[0], *_port_of(options)), outcome, clients)
            else:  # a local address, so the node's own packets meet the chain when they come in
                _refuse(nodeports, _port_of(options), outcome, CLIENTS)

    def _nothing_leaked(self) -> None:
        """ValueError for chains of Services and endpoints that nothing leads to (IPT-05)."""
        there = {chain for table, chain in self._tables.chains if table == "nat" and chain.startswith(OWN)}
        if there != self._reached:
            raise ValueError(f"chains that nothing leads to, or that are missing: {sorted(there ^ self._reached)[:5]}")


def _refuse(into: dict, key, outcome: tuple, clients: tuple[int, ...]) -> None:
    found = into.get(key) or Destination(("none",), ("none",), ("none",), None, (False, False, False), 0)
    outcomes = [outcome if client in clients and found[client] == ("none",) else found[client] for client in CLIENTS]
    into[key] = found._replace(pod=outcomes[POD], node=outcomes[NODE], external=outcomes[EXTERNAL])


def _is_for(options: Options, client: int, chain: str) -> bool:
    """Whether a rule of a Service's chain is for a client, by what is left in its match."""
    rest = options.keys() - {"-j"}
    if not rest:
        return True
    if rest in ({"-s"}, {"-i"}):
        return client == POD
    if rest in ({"! -s"}, {"! -i"}):
        return client != POD
    if rest == {"--src-type"} and options["--src-type"] == "LOCAL":
        return client == NODE
    raise ValueError(f"chain {chain}: who is meant by {options}?")


def _nothing_else(options: Options, chain: str) -> None:
    if options:
        raise ValueError(f"chain {chain}: a rule with {options}")


def _address(text: str) -> bytes:
    """Packed, by the C library: there are many."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        raise ValueError(f"{text!r} is not an address") from None


@cache
def _network(text: str) -> tuple[bytes, bytes]:
    """The first and last address of a block, or twice the one address."""
    address, _, prefix = text.partition("/")
    if not prefix or prefix == ("128" if ":" in text else "32"):
        return (_address(address),) * 2
    network = ipaddress.ip_network(text)
    return network.network_address.packed, network.broadcast_address.packed


def _port_of(options: Options) -> tuple[int, int]:
    return PROTOCOLS[options["-p"]], int(options["--dport"])
