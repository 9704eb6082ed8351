"""The rules, as text for `nft -f`: tables `ip kube-proxy` and `ip6 kube-proxy` (NFT-01, NFT-03).

Theory of operation.  A *pick* is a number: the count of endpoints in its upper 12 bits, the id of
an endpoint set in its lower 20.  The destination of a new connection is looked up in the maps of
chain `services`, the pick found is kept in the packet's priority (scratch until the connection's
first packet leaves `nat-postrouting`), its count selects chain `pick-N`, and that draws one of N
elements of the protocol's `endpoints` map (nft types a port only with its protocol).  So the rules
know nothing of any Service: a change of a Service is a change of elements, whose cost does not
depend on how many Services there are.

Verdict maps hold no Service either: the kernel walks a whole verdict map to validate one new goto.

Hairpin traffic (source equals endpoint, HAIR-01) is recognised after DNAT by comparing source and
destination byte for byte against the constant set `equal-bytes`, so it needs no element per endpoint.

Counts from FIRST_CLASS up are no counts: each leads to the chain of a session affinity timeout.  That
looks the client up in the timeout's own map `affinity-clients-SECONDS`, which the rules themselves
fill, for the ticket of an endpoint (see `affinity`); a ticket that is missing or no longer a member is
drawn anew, from as many as `affinity-picks` tells.
"""

from __future__ import annotations

from engine.addresses import format_address
from engine.config import ProxyConfig
from engine.model import SCTP, TCP, UDP, Network

ID_BITS = 20
FIRST_CLASS = 3072
COUNT_LIMIT = FIRST_CLASS - 1
"""Endpoints that one pick can count; a larger set is cut to its first ones."""
AFFINITY_LIMIT = COUNT_LIMIT // 2
"""The same with session affinity, where the cluster-wide and local sets share their numbers."""

TRANSPORTS = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}
DESTINATION_MAPS = ("services", "external-services", "local-services", "short-circuits")
NODEPORT_MAPS = ("nodeports", "local-nodeports", "short-circuit-nodeports")
DESTINATION_SETS = ("reject-services", "drop-services", "firewalled")
NODEPORT_SETS = ("reject-nodeports", "drop-nodeports")


def skeleton(family: int, config: ProxyConfig) -> str:
    """All rules but the `pick-N` chains, on a fresh table."""
    ip = "ip" if family == 4 else "ip6"
    parts = [f"add table {ip} kube-proxy\ndelete table {ip} kube-proxy\n", f"table {ip} kube-proxy {{\n"]
    parts += [_sets(ip), _affinity_sets(ip), _nat_chains(family, ip, config), _filter_chains(family, ip, config), "}\n"]
    return "".join(parts)


def picks(family: int, first: int, last: int) -> str:
    """Text that adds chains `pick-FIRST` to `pick-LAST` to the table."""
    ip = "ip" if family == 4 else "ip6"
    return f"table {ip} kube-proxy {{\n{_pick_chains(first, last)}}}\n"


def draws(family: int, first: int, last: int) -> str:
    """Text that adds chains `draw-FIRST` to `draw-LAST`, which draw a ticket instead of an endpoint."""
    ip = "ip" if family == 4 else "ip6"
    blocks = []
    for count in range(first, last + 1):
        drawn = "meta priority set meta priority & f:ffff . numgen random mod {} map @affinity-slots"
        again = [f"{drawn.format(1)}"] if count > 1 else []
        blocks.append(_block("chain", f"draw-{count}", f"{drawn.format(count)} return", *again))
    jumps = ", ".join(f"{_class(count)} : jump draw-{count}" for count in range(first, last + 1))
    blocks.append(_block("map", "draws", "typeof meta priority : verdict", f"elements = {{ {jumps} }}"))
    return f"table {ip} kube-proxy {{\n{''.join(blocks)}}}\n"


def affinity_class(family: int, seconds: int, number: int) -> str:
    """Text that adds the chains of one timeout: `number` leads to cluster-wide sets, the next to local ones."""
    ip = "ip" if family == 4 else "ip6"
    clients = f"affinity-clients-{seconds}"
    typeof = f"typeof meta priority . {ip} saddr : meta priority"
    blocks = [_block("map", clients, typeof, "size 1048576", "flags dynamic,timeout")]
    gotos = []
    for local, kind in enumerate(("cluster", "local")):
        member = "meta priority | 0:1" if local else "meta priority"
        key = f"meta priority & f:fffe . {ip} saddr"
        blocks.append(
            _block(
                "chain",
                f"affinity-{seconds}-{kind}",
                f"meta priority set {key} map @{clients}",
                f"{member} != @affinity-members jump draw-{kind}",
                f"update @{clients} {{ {key} timeout {seconds}s : meta priority }}",
                *(f"meta l4proto {p} dnat to {member} map @affinity-{p}" for p in TRANSPORTS.values()),
            )
        )
        gotos.append(f"{_class(number + local)} : goto affinity-{seconds}-{kind}")
    blocks.append(_block("map", "picks", "typeof meta priority : verdict", f"elements = {{ {', '.join(gotos)} }}"))
    return f"table {ip} kube-proxy {{\n{''.join(blocks)}}}\n"


def node_ports_everywhere(family: int, config: ProxyConfig) -> bool:
    """Whether node ports are taken on every local address (NP-02, NP-06); else set `nodeport-ips` says."""
    return config.node_port_networks(family) == () and not (_lists_other_family(family, config))


def _lists_other_family(family: int, config: ProxyConfig) -> bool:
    """Up to 1.30 a list without the family meant the node's own address."""
    marker = ":" if family == 6 else "."
    return config.version < (1, 31) and not any(marker in text for text in config.node_port_addresses or ())


def equal_bytes(family: int) -> list[tuple[bytes, bytes]]:
    """The constant elements of set `equal-bytes`: every byte value at every place, beside itself."""
    size = 4 if family == 4 else 16
    values = [v << shift for shift in _shifts(family) for v in range(1, 256)]
    return [(value.to_bytes(size, "big") * 2, b"") for value in (0, *values)]


def _block(kind: str, name: str, *lines: str) -> str:
    return f"  {kind} {name} {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"


def _sets(ip: str) -> str:
    destination = f"{ip} daddr . meta l4proto . th dport"
    blocks = [_block("map", n, f"typeof {destination} : meta priority") for n in DESTINATION_MAPS]
    blocks += [_block("map", n, "typeof meta l4proto . th dport : meta priority") for n in NODEPORT_MAPS]
    blocks += [_block("set", n, f"typeof {destination}") for n in DESTINATION_SETS]
    blocks += [_block("set", n, "typeof meta l4proto . th dport") for n in NODEPORT_SETS]
    blocks += [_block("set", n, f"typeof {ip} daddr") for n in ("cluster-ips", "nodeport-ips")]
    blocks.append(_block("map", "picks", "typeof meta priority : verdict"))
    blocks.append(_block("set", "equal-bytes", f"typeof {ip} saddr . {ip} daddr"))
    blocks.append(_block("set", "firewall-allowed", f"typeof {destination} . {ip} saddr", "flags interval"))
    index = "numgen random mod 65536"
    blocks += [
        _block("map", f"{protocol}-endpoints", f"typeof meta priority . {index} : {ip} daddr . {protocol} dport")
        for protocol in TRANSPORTS.values()
    ]
    return "".join(blocks)


def _affinity_sets(ip: str) -> str:
    priority = "typeof meta priority"
    blocks = [
        _block("map", "affinity-picks", f"{priority} : meta priority"),
        _block("map", "affinity-slots", f"{priority} . numgen random mod 65536 : meta priority"),
        _block("set", "affinity-members", priority),
        _block("map", "draws", f"{priority} : verdict"),
    ]
    blocks += [_block("map", f"affinity-{p}", f"{priority} : {ip} daddr . {p} dport") for p in TRANSPORTS.values()]
    for local, kind in enumerate(("cluster", "local")):
        number = "meta priority & f:ffff" + (" | 0:1" if local else "")
        lines = [f"meta priority set {number} map @affinity-picks", "meta priority & fff0:0 vmap @draws"]
        blocks.append(_block("chain", f"draw-{kind}", *lines))
    return "".join(blocks)


def _shifts(family: int) -> list[int]:
    """Shifts of each byte of an address, lowest first: it differs most often."""
    return [8 * i for i in range(4 if family == 4 else 16)]


def _text(family: int, value: int) -> str:
    return format_address(value.to_bytes(4 if family == 4 else 16, "big"))


def _pick_chains(first: int, last: int) -> str:
    """One chain a count.  The second rule serves a lookup that fell between two generations."""
    blocks = []
    for count in range(first, last + 1):
        draw = [f"numgen random mod {count}"] + (["numgen random mod 1"] if count > 1 else [])
        rules = [
            f"meta l4proto {protocol} dnat to meta priority & f:ffff . {d} map @{protocol}-endpoints"
            for protocol in TRANSPORTS.values()
            for d in draw
        ]
        blocks.append(_block("chain", f"pick-{count}", *rules))
    gotos = ", ".join(f"{_class(count)} : goto pick-{count}" for count in range(first, last + 1))
    blocks.append(_block("map", "picks", "typeof meta priority : verdict", f"elements = {{ {gotos} }}"))
    return "".join(blocks)


def _class(count: int) -> str:
    """A count in the upper 12 bits, in the `major:minor` notation (hexadecimal) of priorities."""
    return f"{count << 4:x}:0"


def _network(network: Network) -> str:
    return f"{format_address(network.address)}/{network.prefix}"


def _pod_source(family: int, ip: str, config: ProxyConfig) -> tuple[str, str]:
    """What matches a pod's packets and what all others; two empty texts for the no-op detector (DET-01 to DET-04)."""
    network, interface = config.pods(family), config.pod_interfaces()
    if network:
        return f"{ip} saddr {_network(network)}", f"{ip} saddr != {_network(network)}"
    return (f'iifname "{interface}"', f'iifname != "{interface}"') if interface else ("", "")


def _node_port(family: int, ip: str, config: ProxyConfig) -> str:
    """What matches the addresses that take node ports."""
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
            _block("chain", "pick", "meta priority & fff0:0 vmap @picks"),
            _block("chain", "masqueraded-traffic", set_mark, "goto pick"),
            _block("chain", "cluster-traffic", *cluster, "goto pick"),
            _block("chain", "services", *_service_rules(ip, pod, _node_port(family, ip, config))),
            _hook("nat-prerouting", "nat", "prerouting", "dstnat", "jump services"),
            _hook("nat-output", "nat", "output", "-100", "jump services"),
            _postrouting(family, ip, mark),
        ]
    )


def _service_rules(ip: str, pod: str, node_port: str) -> list[str]:
    """Chain `services`: the first map that has the destination decides."""
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
    return _block("chain", name, f"type {kind} hook {hook} priority {priority};", *lines)


def _postrouting(family: int, ip: str, mark: int) -> str:
    same = [f"{ip} saddr & {m} . {ip} daddr & {m} @equal-bytes" for m in _masks(family)]
    return _block(
        "chain", "masquerading", f"meta mark set meta mark ^ {mark:#010x}", "masquerade fully-random"
    ) + _hook(
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
    firewall = f"{destination} @firewalled {destination} . {ip} saddr != @firewall-allowed drop"
    nodeport = f"{_node_port(family, ip, config)} meta l4proto . th dport"
    check = [f"{destination} @drop-services drop", f"{destination} @reject-services reject"]
    check.append(f"{ip} daddr @cluster-ips reject")
    check += [f"{ip} daddr {_network(network)} drop" for network in config.services(family)]
    nodes = [f"{nodeport} @drop-nodeports drop", f"{nodeport} @reject-nodeports reject"]
    new = "ct state new jump"
    return "".join(
        [
            _block("chain", "service-check", *check),
            _block("chain", "nodeport-check", *nodes),
            _hook("filter-prerouting-pre-dnat", "filter", "prerouting", "dstnat - 10", firewall),
            _hook("filter-output-pre-dnat", "filter", "output", "-110", firewall),
            _hook("filter-input", "filter", "input", "filter", f"{new} nodeport-check", f"{new} service-check"),
            _hook("filter-forward", "filter", "forward", "filter", f"{new} service-check"),
            _hook("filter-output", "filter", "output", "filter", f"{new} service-check"),
        ]
    )
