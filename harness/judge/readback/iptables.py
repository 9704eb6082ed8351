"""Derives behaviour from the saved iptables rules, by parsing the forms of kube-proxy's chains.

    iptables-save -> Tables -> behaviour_of() -> Behaviour

A Service's chain is walked for each kind of client: pods are matched by source or interface, the node by
`--src-type LOCAL`.  Any other rule in such a chain, inconsistent probabilities, and unreferenced chains
raise ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple, TypeVar

from harness.judge.behaviour import (
    PROTOCOL_NUMBERS,
    Behaviour,
    Chains,
    Destination,
    Key,
    Masquerade,
    Outcome,
    Refused,
    Target,
)
from harness.judge.oracle.settings import Settings
from harness.judge.readback.iptables_names import chain_suffix
from harness.judge.readback.iptables_options import Options, address_of, network_of, options_of, port_of
from harness.judge.readback.iptables_text import ParsedTables

CLIENTS = POD, NODE, EXTERNAL = 0, 1, 2
OWN = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-")
"""Name prefixes of the chains that belong to one service port or endpoint."""
_MARK = "KUBE-MARK-MASQ"
_REFUSALS: dict[str, Refused] = {"REJECT": ("reject",), "DROP": ("drop",)}
_CHANCE_ERROR = 1e-8
"""The kernel stores a probability in 31 bits, and the text has ten digits."""

_PORT = ("-p", "--dport")
_TRANSLATION = ("-p", "--to-destination")
_RECENT = frozenset(("--set", "--rcheck", "--reap", "--name", "--mask", "--rsource"))

_Place = TypeVar("_Place", Key, tuple[int, int])


class _Balanced(NamedTuple):
    """The targets of a chain of endpoints, and which clients of which cluster IP it marks."""

    targets: frozenset[Target]
    affinity_seconds: int
    marked: Masquerade
    cluster_ip: Key | None
    protocol: int


class _Way(NamedTuple):
    """Where a chain sends one kind of client: a chain of endpoints or None, and whether it is marked."""

    balanced: _Balanced | None
    marked: bool


class Context(NamedTuple):
    """The proxy's settings: how it detects pods, and whether node ports are served on every local address.

    `chains` are chains that must exist even if unreferenced.
    """

    family: int
    settings: Settings
    chains: Chains | None
    everywhere: bool


def behaviour_of(tables: ParsedTables, context: Context | None = None) -> Behaviour:
    """The behaviour of one family's rules; ValueError if no proxy with this configuration writes them."""
    return _Reading(tables, context).behaviour()


class _Reading:
    """Parses the rules of one family."""

    def __init__(self, tables: ParsedTables, context: Context | None) -> None:
        self._tables, self._context, self._chains = tables, context, context.chains if context else None
        self._reached: set[str] = set()
        self._ways = cache(self._ways_of)
        self._balanced = cache(self._balanced_of)

    def behaviour(self) -> Behaviour:
        """The behaviour: translation first, then the filter table for packets that are not translated."""
        destinations: dict[Key, Destination] = {}
        nodeports: dict[tuple[int, int], Destination] = {}
        taking = self._services(destinations)
        for options in self._rules("nat", "KUBE-NODEPORTS"):
            chain = _only(options, "KUBE-NODEPORTS", *_PORT)
            key = port_of(options)
            _new(nodeports, key, self._translated(chain, key), "KUBE-NODEPORTS")
        self._firewall(destinations)
        self._refusals("KUBE-SERVICES", destinations, nodeports, CLIENTS)
        self._refusals("KUBE-EXTERNAL-SERVICES", destinations, nodeports, (POD, EXTERNAL))
        self._shadowed()
        self._nothing_leaked()
        checked = {int(options["--dport"]) for options in self._rules("filter", "KUBE-NODEPORTS")}
        return Behaviour(destinations, nodeports, frozenset(), taking, frozenset(checked), self._chains)

    def _rules(self, table: str, chain: str) -> Iterator[Options]:
        lines = self._tables.rules(table, chain)
        if len(set(lines)) != len(lines):
            raise ValueError(f"chain {chain} has a rule twice")
        return map(options_of, lines)

    def _services(self, destinations: dict[Key, Destination]) -> frozenset[bytes] | None:
        """Addresses and ports of Services; the addresses of node ports, None for every local one (NP-04)."""
        taking: set[bytes] = set()
        everywhere = last = False
        for options in self._rules("nat", "KUBE-SERVICES"):
            if options["-j"] == "KUBE-NODEPORTS":
                everywhere |= self._takes_node_ports(options, taking)
                last = True
                continue
            if last:
                raise ValueError("chain KUBE-SERVICES: the jump to KUBE-NODEPORTS must be last")
            chain = _only(options, "KUBE-SERVICES", "-d", *_PORT)
            key = (network_of(options["-d"])[0], *port_of(options))
            _new(destinations, key, self._translated(chain, key), "KUBE-SERVICES")
        if everywhere and taking:
            raise ValueError("chain KUBE-SERVICES: node ports are served both everywhere and on single addresses")
        if self._context and self._context.everywhere and not everywhere:
            raise ValueError("chain KUBE-SERVICES: node ports are not served everywhere")
        return None if everywhere else frozenset(taking)

    def _takes_node_ports(self, options: Options, taking: set[bytes]) -> bool:
        """Whether a jump is for every local address, except loopback; otherwise its address is added to `taking`."""
        if "--dst-type" not in options:
            _only(options, "KUBE-SERVICES", "-d")
            taking.add(network_of(options["-d"])[0])
            return False
        loopback = options.pop("! -d", "")
        _only(options, "KUBE-SERVICES", "--dst-type")
        if self._context is not None:
            everything = self._context.family == 4 and self._context.settings.localhost
            wanted = "" if everything else {4: "127.0.0.0/8", 6: "::1/128"}[self._context.family]
            if loopback != wanted:
                raise ValueError(f"node ports are served everywhere except {loopback!r}, expected {wanted!r}")
        return options["--dst-type"] == "LOCAL"

    def _translated(self, chain: str, key: Key | tuple[int, int] | None = None) -> Destination:
        """The effect of a jump to a Service's chain on each client; paths without effect stay `none`."""
        if chain.startswith(("KUBE-SVC-", "KUBE-SVL-")):
            self._masquerades_at(chain, key)
        allowed = None
        if chain.startswith("KUBE-FW-"):
            self._reached.add(chain)
            chain, allowed = self._allowed(chain)
        ways = self._ways(chain)
        if key is not None and any(way.balanced and way.balanced.protocol != key[-2] for way in ways):
            raise ValueError(f"chain {chain} translates a different protocol than the rule that jumps to it")
        pod, node, external = (_outcome(way) for way in ways)
        seconds = max((way.balanced.affinity_seconds for way in ways if way.balanced), default=0)
        marked = tuple(way.marked and way.balanced is not None for way in ways)
        return Destination(pod, node, external, allowed, (marked[POD], marked[NODE], marked[EXTERNAL]), seconds)

    def _masquerades_at(self, chain: str, key: Key | tuple[int, int] | None) -> None:
        """ValueError if the chain of a cluster IP marks packets to another destination (CIP-04)."""
        marked = self._balanced(chain).cluster_ip
        if marked not in (None, key):
            raise ValueError(f"chain {chain} marks packets to {marked}, but is reached from {key}")

    def _allowed(self, chain: str) -> tuple[str, frozenset[tuple[bytes, bytes]]]:
        """The chain after the source ranges, and the ranges."""
        behind, networks, last = set(), [], False
        for options in self._rules("nat", chain):
            last = "-j" not in options
            if not last:
                behind.add(options.pop("-j"))
                networks.append(options.pop("-s", None))
            _nothing_else(options, chain)
        if not last:
            raise ValueError(f"chain {chain}: the rule for all other clients is not the last one")
        if len(behind) != 1:
            raise ValueError(f"chain {chain} jumps to {sorted(behind)}, expected one chain")
        size = len(next((network_of(n)[0] for n in networks if n), b"\0\0\0\0"))
        everything = (bytes(size), b"\xff" * size)
        return behind.pop(), frozenset(network_of(n) if n else everything for n in networks)

    def _ways_of(self, chain: str) -> tuple[_Way, _Way, _Way]:
        """Where a chain sends a pod, the node and an external client."""
        self._reached.add(chain)
        if not chain.startswith("KUBE-EXT-"):
            balanced = self._balanced(chain)
            pod, node, external = (_Way(balanced, marked) for marked in balanced.marked)
        else:
            rules = list(self._rules("nat", chain))
            pod, node, external = (self._external_way(chain, rules, client) for client in CLIENTS)
        return pod, node, external

    def _external_way(self, chain: str, rules: list[Options], client: int) -> _Way:
        marked = False
        for options in rules:
            if not self._is_for(options, client, chain):
                continue
            if options["-j"] != _MARK:
                self._reached.add(options["-j"])
                return _Way(self._balanced(options["-j"]), marked)
            marked = True
        return _Way(None, marked)

    def _balanced_of(self, chain: str) -> _Balanced:
        """A chain that marks packets to the cluster IP, then returns known clients to their endpoint, then draws."""
        drawn: list[tuple[str, float]] = []
        kept: dict[str, int] = {}
        marked = [False, False, False]
        cluster_ip: Key | None = None
        order = []
        for options in self._rules("nat", chain):
            target = options.pop("-j")
            if target == _MARK:
                cluster_ip = (network_of(options.pop("-d"))[0], *port_of(options))
                del options["-p"], options["--dport"]
                for client in CLIENTS:
                    marked[client] |= self._is_for(options, client, chain)
                order.append(0)
            elif "--rcheck" in options:
                if options.pop("--name") != target:
                    raise ValueError(f"chain {chain}: clients of {target} are looked up in another list")
                kept[target] = int(options.pop("--seconds"))
                _nothing_else({key: v for key, v in options.items() if key not in _RECENT}, chain)
                order.append(1)
            else:
                drawn.append((target, float(options.pop("--probability", 1))))
                options.pop("--mode", "")
                _nothing_else(options, chain)
                order.append(2)
        if order != sorted(order):
            raise ValueError(f"chain {chain} draws before it looks up known clients, or marks too late")
        self._fair(chain, drawn)
        endpoints, protocol = self._endpoints(chain, drawn, kept)
        return _Balanced(
            endpoints,
            max(kept.values(), default=0),
            (marked[POD], marked[NODE], marked[EXTERNAL]),
            cluster_ip,
            protocol,
        )

    @staticmethod
    def _fair(chain: str, drawn: list[tuple[str, float]]) -> None:
        """ValueError unless all endpoints have the same probability (CIP-01)."""
        left = len(drawn)
        if not left or any(abs(chance - 1 / (left - i)) > _CHANCE_ERROR for i, (_, chance) in enumerate(drawn)):
            raise ValueError(f"chain {chain} is unfair: probabilities {[chance for _, chance in drawn][:9]}")

    def _endpoints(
        self, chain: str, drawn: list[tuple[str, float]], kept: dict[str, int]
    ) -> tuple[frozenset[Target], int]:
        """Targets of a chain and their protocol; with affinity each must record and look up clients (AFF-02)."""
        names = [name for name, _ in drawn]
        if kept and (kept.keys() != set(names) or len(set(kept.values())) > 1):
            raise ValueError(f"chain {chain} looks up clients of {sorted(kept)}, but draws among {sorted(names)}")
        found, protocols = set(), set()
        for name in names:
            self._reached.add(name)
            target, protocol, remembers = self._endpoint(name)
            protocols.add(protocol)
            if remembers != bool(kept):
                raise ValueError(f"chain {chain} and endpoint {name} differ about session affinity")
            found.add(target)
        if len(found) != len(names):
            raise ValueError(f"chain {chain} has an endpoint twice")
        (protocol,) = protocols
        return frozenset(found), protocol

    def _endpoint(self, chain: str) -> tuple[Target, int, bool]:
        """Target and protocol of an endpoint's chain, which marks hairpins first (HAIR-01); if it records clients."""
        rules = list(self._rules("nat", chain))
        if len(rules) != 2:
            raise ValueError(f"chain {chain} has {len(rules)} rules, expected two for an endpoint")
        hairpin, translation = rules
        _only(hairpin, chain, "-s")
        if _only({k: v for k, v in translation.items() if k not in _RECENT}, chain, *_TRANSLATION) != "DNAT":
            raise ValueError(f"chain {chain} does not translate")
        address, _, port = translation["--to-destination"].rpartition(":")
        packed = address_of(address.strip("[]"))
        if hairpin["-j"] != _MARK or network_of(hairpin["-s"]) != (packed, packed):
            raise ValueError(f"chain {chain} does not mark packets from its endpoint to itself")
        if translation.get("--name", chain) != chain:
            raise ValueError(f"chain {chain} records clients under another name")
        return (packed, int(port)), PROTOCOL_NUMBERS[translation["-p"]], "--set" in translation

    def _firewall(self, destinations: dict[Key, Destination]) -> None:
        """Addresses with source ranges must equal those that the filter table drops if not translated (LB-03)."""
        dropped = set()
        for options in self._rules("filter", "KUBE-PROXY-FIREWALL"):
            if _only(options, "KUBE-PROXY-FIREWALL", "-d", *_PORT) != "DROP":
                raise ValueError(f"chain KUBE-PROXY-FIREWALL: a rule with {options}")
            dropped.add((network_of(options["-d"])[0], *port_of(options)))
        restricted = {key for key, destination in destinations.items() if destination.allowed is not None}
        wanted = restricted if self._chains is None else restricted | self._chains.guarded
        if dropped != wanted:
            raise ValueError(f"source ranges and KUBE-PROXY-FIREWALL differ: {sorted(dropped ^ wanted)[:5]}")

    def _refusals(
        self,
        chain: str,
        destinations: dict[Key, Destination],
        nodeports: dict[tuple[int, int], Destination],
        clients: tuple[int, ...],
    ) -> None:
        """Untranslated packets that the filter table rejects or drops, for clients that reach the chain."""
        seen = set()
        for options in self._rules("filter", chain):
            how = options.pop("--reject-with", "icmp-port-unreachable").replace("icmp6", "icmp")
            outcome = _REFUSALS.get(_only(options, chain, *_PORT, "-d" if "-d" in options else "--dst-type"))
            if outcome is None or how != "icmp-port-unreachable":
                raise ValueError(f"chain {chain}: a rule with {options} {how}")
            where, port = network_of(options["-d"])[0] if "-d" in options else options["--dst-type"], port_of(options)
            if (where, port) in seen or where == "UNICAST":
                raise ValueError(f"chain {chain} has {(where, *port)} twice")
            seen.add((where, port))
            if isinstance(where, bytes):
                _refuse(destinations, (where, *port), outcome, clients)
            else:  # a local address, so the node's own packets pass the chain on input
                _refuse(nodeports, port, outcome, CLIENTS)

    def _is_for(self, options: Options, client: int, chain: str) -> bool:
        """Whether a rule of a Service's chain applies to a client, by the remaining options of its match."""
        rest = options.keys() - {"-j"}
        if not rest:
            return True
        (match,) = rest if len(rest) == 1 else ("",)
        if match in ("-s", "-i", "! -s", "! -i") and self._detects_pods(match[-1], options[match]):
            return (client == POD) != match.startswith("!")
        if match == "--src-type" and options[match] == "LOCAL":
            return client == NODE
        raise ValueError(f"chain {chain}: unknown match {options}")

    def _detects_pods(self, kind: str, text: str) -> bool:
        """Whether a match on the source or the interface is the configured detection of pods (DET)."""
        if self._context is None:
            return True
        settings = self._context.settings
        if kind == "i":
            suffix = "+" if settings.detect_local_mode == "InterfaceNamePrefix" else ""
            return text == f"{settings.pod_interface}{suffix}"
        first, last = network_of(text)
        pods = settings.pod_block(len(first))
        return pods is not None and (pods.network_address.packed, pods.broadcast_address.packed) == (first, last)

    def _shadowed(self) -> None:
        """Read the chains of ports whose addresses all belong to an earlier Service."""
        if self._chains is None:
            return
        for kind, names in (("KUBE-EXT-", self._chains.external), ("KUBE-FW-", self._chains.firewalls)):
            wanted = {f"{kind}{chain_suffix(name)}" for name in names}
            there = {c for table, c in self._tables.chains if table == "nat" and c.startswith(kind)}
            if wanted != there:
                raise ValueError(f"chains missing or unexpected: {sorted(wanted ^ there)[:5]}")
            for chain in sorted(wanted - self._reached):
                self._translated(chain)

    def _nothing_leaked(self) -> None:
        """ValueError for unreferenced chains of Services and endpoints (IPT-05)."""
        there = {chain for table, chain in self._tables.chains if table == "nat" and chain.startswith(OWN)}
        if there != self._reached:
            raise ValueError(f"chains unreferenced or missing: {sorted(there ^ self._reached)[:5]}")


def _outcome(way: _Way) -> Outcome:
    return ("dnat", way.balanced.targets) if way.balanced else ("none",)


def _refuse(into: dict[_Place, Destination], key: _Place, outcome: Outcome, clients: tuple[int, ...]) -> None:
    found = into.get(key) or Destination(("none",), ("none",), ("none",), None, (False, False, False), 0)
    held = found.outcomes
    outcomes = [outcome if client in clients and held[client] == ("none",) else held[client] for client in CLIENTS]
    into[key] = found._replace(pod=outcomes[POD], node=outcomes[NODE], external=outcomes[EXTERNAL])


def _new(into: dict[_Place, Destination], key: _Place, value: Destination, chain: str) -> None:
    if key in into:
        raise ValueError(f"chain {chain} has {key} twice")
    into[key] = value


def _only(options: Options, chain: str, *wanted: str) -> str:
    """The target of a rule; ValueError unless it matches exactly the expected options."""
    if options.keys() != {"-j", *wanted}:
        raise ValueError(f"chain {chain}: a rule with {options}")
    return options["-j"]


def _nothing_else(options: Options, chain: str) -> None:
    if options:
        raise ValueError(f"chain {chain}: a rule with {options}")
