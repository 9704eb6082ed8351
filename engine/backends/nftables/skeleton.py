"""The rules, as text for `nft -f`: tables `ip kube-proxy` and `ip6 kube-proxy` (NFT-01, NFT-03).

Theory of operation.  A *pick* is a number: an endpoint count and the id of an endpoint set (see
`numbers`).  The destination of a new connection is looked up in the maps of chain `services`, the
pick is stored in the packet's priority (used as a register until the connection's first packet leaves
`nat-postrouting`), its count selects chain `pick-N`, or `large-N` for a set of thousands, which
draws one of N elements of the protocol's `endpoints` map (in nft a port's type includes its protocol).
So the rules are independent of Services: a change of a Service is a change of elements, whose cost
does not depend on the number of Services.

Verdict maps have no elements per Service either: the kernel walks a whole verdict map to validate one new goto.

Hairpin traffic (source equals endpoint, HAIR-01) is detected after DNAT.  Since 1.36 it is limited to
this node's endpoints, which are in set `hairpin-connections` (HAIR-01a); before, it covers all endpoints,
by comparing source and destination byte by byte against the constant set `equal-bytes`.

Two picks jump to chains `sticky-cluster` and `sticky-local` instead of a set: session affinity
(see `affinity_rules`).
"""

from __future__ import annotations

from engine.addresses import format_address, format_network
from engine.backends.nftables.affinity_rules import sticky_chains, sticky_gotos, sticky_sets
from engine.backends.nftables.numbers import ID_BITS, LARGE, LARGE_ID_BITS, priority
from engine.backends.nftables.text import block
from engine.config import PRIMARY, ProxyConfig
from engine.model import SCTP, TCP, UDP

HAIRPIN_SET_SINCE = (1, 36)
TRANSPORTS = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}
DESTINATION_MAPS = ("services", "external-services", "local-services", "short-circuits")
NODEPORT_MAPS = ("nodeports", "local-nodeports", "short-circuit-nodeports")
DESTINATION_SETS = ("reject-services", "drop-services", "firewalled")
NODEPORT_SETS = ("reject-nodeports", "drop-nodeports")


def skeleton(family: int, config: ProxyConfig) -> str:
    """A new table with all rules except the `pick-N` chains."""
    ip = "ip" if family == 4 else "ip6"
    parts = [f"add table {ip} kube-proxy\ndelete table {ip} kube-proxy\n", f"table {ip} kube-proxy {{\n"]
    parts += [_sets(ip, config), sticky_sets(ip), _nat_chains(family, ip, config), _filter_chains(family, ip, config)]
    parts += [sticky_chains(ip), "}\n"]
    return "".join(parts)


def picks(family: int, first: int, last: int, large: bool = False) -> str:
    """Text that adds chains `pick-FIRST` to `pick-LAST` to the table, or `large-FIRST` to `large-LAST`."""
    ip = "ip" if family == 4 else "ip6"
    return f"table {ip} kube-proxy {{\n{_pick_chains(first, last, large)}}}\n"


def node_ports_everywhere(family: int, config: ProxyConfig) -> bool:
    """Whether node ports are accepted on all local addresses (NP-02, NP-06), else on those in set `nodeport-ips`."""
    texts = config.node_port_addresses or (PRIMARY,)
    everywhere = not config.node_port_networks(family, (), (PRIMARY,))
    return PRIMARY not in texts and everywhere and not _lists_other_family(family, config)


def _lists_other_family(family: int, config: ProxyConfig) -> bool:
    """Whether the list has no entry of the family, which up to 1.30 meant the node's own address."""
    marker = ":" if family == 6 else "."
    return config.version < (1, 31) and not any(marker in text for text in config.node_port_addresses or ())


def hairpin_by_endpoint(config: ProxyConfig) -> bool:
    """Whether hairpin masquerading is limited to this node's endpoints (HAIR-01a)."""
    return config.version >= HAIRPIN_SET_SINCE


def equal_bytes(family: int) -> list[bytes]:
    """The constant elements of set `equal-bytes`: every byte value at every position, paired with itself."""
    size = 4 if family == 4 else 16
    values = [v << shift for shift in _shifts(family) for v in range(1, 256)]
    return [value.to_bytes(size, "big") * 2 for value in (0, *values)]


def _sets(ip: str, config: ProxyConfig) -> str:
    destination = f"{ip} daddr . meta l4proto . th dport"
    blocks = [block("map", n, f"typeof {destination} : meta priority") for n in DESTINATION_MAPS]
    blocks += [block("map", n, "typeof meta l4proto . th dport : meta priority") for n in NODEPORT_MAPS]
    blocks += [block("set", n, f"typeof {destination}") for n in DESTINATION_SETS]
    blocks += [block("set", n, "typeof meta l4proto . th dport") for n in NODEPORT_SETS]
    blocks += [block("set", n, f"typeof {ip} daddr") for n in ("cluster-ips", "nodeport-ips")]
    blocks.append(_verdicts("picks", sticky_gotos()))
    blocks.append(block("map", "large-picks", "typeof meta priority : verdict"))
    if hairpin_by_endpoint(config):
        blocks.append(block("set", "hairpin-connections", f"typeof {_hairpin(ip)}"))
    else:
        blocks.append(block("set", "equal-bytes", f"typeof {ip} saddr . {ip} daddr"))
    if config.localhost_rejected():
        blocks.append(block("set", "localhost-nodeports", "typeof meta l4proto . th dport"))
        blocks += [block("counter", f"localhost-nodeport-rejected-{t}") for t in TRANSPORTS.values()]
    blocks.append(block("set", "firewall-allowed", f"typeof {_allowed(ip)}", "flags interval"))
    index = "numgen random mod 65536"
    blocks += [
        block("map", f"{protocol}-endpoints", f"typeof meta priority . {index} : {ip} daddr . {protocol} dport")
        for protocol in TRANSPORTS.values()
    ]
    return "".join(blocks)


def _hairpin(ip: str) -> str:
    """The key that identifies a connection of an endpoint to itself, after DNAT."""
    return f"{ip} saddr . {ip} daddr . meta l4proto . th dport"


def _shifts(family: int) -> list[int]:
    """Shifts of each byte of an address, the lowest first, as it differs most often."""
    return [8 * i for i in range(4 if family == 4 else 16)]


def _allowed(ip: str) -> str:
    """The key of `firewall-allowed`.

    Not with `meta l4proto`: for interval sets nft 1.0.6 adds a two-byte order conversion of its one byte, which later
    updates of Linux 6.12 reject.  Rules that use the key have checked `ct state` before.
    """
    return f"{ip} daddr . ct protocol . th dport . {ip} saddr"


def _text(family: int, value: int) -> str:
    return format_address(value.to_bytes(4 if family == 4 else 16, "big"))


def _pick_chains(first: int, last: int, large: bool) -> str:
    """One chain per count.  The second rule handles a lookup between two ruleset generations."""
    name, number_bits, tag = ("large", LARGE_ID_BITS, LARGE) if large else ("pick", ID_BITS, 0)
    blocks = []
    for count in range(first, last + 1):
        draw = [f"numgen random mod {count}"] + (["numgen random mod 1"] if count > 1 else [])
        rules = [
            f"meta l4proto {protocol} dnat to {_number(number_bits)} . {d} map @{protocol}-endpoints"
            for protocol in TRANSPORTS.values()
            for d in draw
        ]
        blocks.append(block("chain", f"{name}-{count}", *rules))
    gotos = {priority(tag | count << number_bits): f"goto {name}-{count}" for count in range(first, last + 1)}
    blocks.append(_verdicts("large-picks" if large else "picks", gotos))
    return "".join(blocks)


def _verdicts(name: str, verdicts: dict[str, str]) -> str:
    elements = ", ".join(f"{key} : {verdict}" for key, verdict in verdicts.items())
    return block("map", name, "typeof meta priority : verdict", f"elements = {{ {elements} }}")


def _number(bits: int) -> str:
    """The number of a set, in the lowest bits of a pick."""
    return f"meta priority & {priority((1 << bits) - 1)}"


def _count(bits: int) -> str:
    """The bits above the number of a set."""
    return f"meta priority & {priority((1 << 32) - (1 << bits))}"


def _pod_source(family: int, ip: str, config: ProxyConfig) -> tuple[str, str]:
    """The matches of a pod's packets and of all others; empty for the no-op detector (DET-01 to DET-04)."""
    network, interface = config.pods(family), config.pod_interfaces()
    if network:
        return f"{ip} saddr {format_network(network)}", f"{ip} saddr != {format_network(network)}"
    return (f'iifname "{interface}"', f'iifname != "{interface}"') if interface else ("", "")


def _node_port(family: int, ip: str, config: ProxyConfig) -> str:
    """The match of addresses that accept node ports."""
    if not node_ports_everywhere(family, config):
        return f"{ip} daddr @nodeport-ips"
    return f"fib daddr type local {ip} daddr != {'127.0.0.0/8' if family == 4 else '::1'}"


def _nat_chains(family: int, ip: str, config: ProxyConfig) -> str:
    mark = 1 << config.masquerade_bit
    pod, other = _pod_source(family, ip, config)
    set_mark = f"meta mark set meta mark | {mark:#010x}"
    cluster = [set_mark] if config.masquerade_all else [f"{other} {set_mark}"] if other else []
    return "".join(
        [
            block("chain", "pick", f"{_count(ID_BITS)} vmap @picks", f"{_count(LARGE_ID_BITS)} vmap @large-picks"),
            block("chain", "masqueraded-traffic", set_mark, "goto pick"),
            block("chain", "cluster-traffic", *cluster, "goto pick"),
            block("chain", "services", *_service_rules(ip, pod, _node_port(family, ip, config))),
            _hook("nat-prerouting", "nat", "prerouting", "dstnat", "jump services"),
            _hook("nat-output", "nat", "output", "-100", "jump services"),
            _postrouting(family, ip, config),
        ]
    )


def _service_rules(ip: str, pod: str, node_port: str) -> list[str]:
    """Chain `services`: the first map that contains the destination decides."""
    destination = f"meta priority set {ip} daddr . meta l4proto . th dport map"
    nodeport = f"{node_port} meta priority set meta l4proto . th dport map"
    lines = [f"{destination} @services goto cluster-traffic"]
    lines.append(f"{destination} @external-services goto masqueraded-traffic")
    lines.append(f"{nodeport} @nodeports goto masqueraded-traffic")
    if pod:
        lines.append(f"{pod} {destination} @short-circuits goto pick")
        lines.append(f"{pod} {nodeport} @short-circuit-nodeports goto pick")
    lines.append(f"fib saddr type local {destination} @short-circuits goto masqueraded-traffic")
    lines.append(f"fib saddr type local {nodeport} @short-circuit-nodeports goto masqueraded-traffic")
    lines.append(f"{destination} @local-services goto pick")
    lines.append(f"{nodeport} @local-nodeports goto pick")
    return lines


def _hook(name: str, kind: str, hook: str, priority: str, *lines: str) -> str:
    return block("chain", name, f"type {kind} hook {hook} priority {priority};", *lines)


def _postrouting(family: int, ip: str, config: ProxyConfig) -> str:
    mark = 1 << config.masquerade_bit
    same = [f"{ip} saddr & {m} . {ip} daddr & {m} @equal-bytes" for m in _masks(family)]
    if hairpin_by_endpoint(config):
        same = [f"{_hairpin(ip)} @hairpin-connections"]
    return block("chain", "masquerading", f"meta mark set meta mark ^ {mark:#010x}", "masquerade fully-random") + _hook(
        "nat-postrouting",
        "nat",
        "postrouting",
        "srcnat",
        "ct status dnat meta priority set 0:0",
        f"meta mark & {mark:#010x} == {mark:#010x} goto masquerading",
        f"ct status dnat {' '.join(same)} masquerade fully-random",
    )


def _masks(family: int) -> list[str]:
    return [_text(family, 0xFF << shift) for shift in _shifts(family)]


def _filter_chains(family: int, ip: str, config: ProxyConfig) -> str:
    destination = f"{ip} daddr . meta l4proto . th dport"
    firewall = f"ct state new {destination} @firewalled {_allowed(ip)} != @firewall-allowed drop"
    nodeport = f"{_node_port(family, ip, config)} meta l4proto . th dport"
    check = [f"{destination} @drop-services drop", f"{destination} @reject-services reject"]
    check.append(f"{ip} daddr @cluster-ips reject")
    check += [f"{ip} daddr {format_network(network)} drop" for network in config.services(family)]
    nodes = [f"{nodeport} @drop-nodeports drop", f"{nodeport} @reject-nodeports reject"]
    new = "ct state new jump"
    entry = [f"{new} nodeport-check", f"{new} service-check"]
    localhost = []
    if config.localhost_rejected():
        loopback = f"{ip} daddr {'127.0.0.0/8' if family == 4 else '::1'}"
        entry.insert(0, f"ct state new {loopback} meta l4proto . th dport @localhost-nodeports jump localhost-check")
        counted = 'meta l4proto {0} counter name "localhost-nodeport-rejected-{0}" reject'
        localhost = [block("chain", "localhost-check", *map(counted.format, TRANSPORTS.values()))]
    return "".join(
        [
            *localhost,
            block("chain", "service-check", *check),
            block("chain", "nodeport-check", *nodes),
            _hook("filter-prerouting-pre-dnat", "filter", "prerouting", "dstnat - 10", firewall),
            _hook("filter-output-pre-dnat", "filter", "output", "-110", firewall),
            _hook("filter-input", "filter", "input", "filter", *entry),
            _hook("filter-forward", "filter", "forward", "filter", f"{new} service-check"),
            _hook("filter-output", "filter", "output", "filter", f"{new} service-check"),
        ]
    )
