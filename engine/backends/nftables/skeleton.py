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
"""

from __future__ import annotations

from engine.addresses import format_address
from engine.config import ProxyConfig
from engine.model import SCTP, TCP, UDP, Network

COUNT_LIMIT = 4095
"""Endpoints that one pick can count; a larger set is cut to its first ones."""

TRANSPORTS = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}
DESTINATION_MAPS = ("services", "external-services", "local-services", "short-circuits")
NODEPORT_MAPS = ("nodeports", "local-nodeports", "short-circuit-nodeports")
DESTINATION_SETS = ("reject-services", "drop-services", "firewalled")
NODEPORT_SETS = ("reject-nodeports", "drop-nodeports")


def skeleton(family: int, config: ProxyConfig) -> str:
    """All rules but the `pick-N` chains, on a fresh table."""
    ip = "ip" if family == 4 else "ip6"
    parts = [f"add table {ip} kube-proxy\ndelete table {ip} kube-proxy\n", f"table {ip} kube-proxy {{\n"]
    parts += [_sets(ip), _nat_chains(family, ip, config), _filter_chains(ip, config.services(family)), "}\n"]
    return "".join(parts)


def picks(family: int, first: int, last: int) -> str:
    """Text that adds chains `pick-FIRST` to `pick-LAST` to the table."""
    ip = "ip" if family == 4 else "ip6"
    return f"table {ip} kube-proxy {{\n{_pick_chains(first, last)}}}\n"


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


def _nat_chains(family: int, ip: str, config: ProxyConfig) -> str:
    mark = 1 << config.masquerade_bit
    pods = config.pods(family)
    destination = f"{ip} daddr . meta l4proto . th dport map"
    nodeport = f"{ip} daddr @nodeport-ips meta priority set meta l4proto . th dport map"
    pod = f"{ip} saddr {_network(pods)} " if pods else ""
    lines = [f"meta priority set {destination} @services goto cluster-traffic"]
    lines.append(f"meta priority set {destination} @external-services goto masqueraded-traffic")
    lines.append(f"{nodeport} @nodeports goto masqueraded-traffic")
    if pods:
        lines.append(f"{pod}meta priority set {destination} @short-circuits goto pick")
        lines.append(f"{pod}{nodeport} @short-circuit-nodeports goto pick")
    local = "fib saddr type local "
    lines.append(f"{local}meta priority set {destination} @short-circuits goto masqueraded-traffic")
    lines.append(f"{local}{nodeport} @short-circuit-nodeports goto masqueraded-traffic")
    lines.append(f"meta priority set {destination} @local-services goto pick")
    lines.append(f"{nodeport} @local-nodeports goto pick")
    set_mark = f"meta mark set meta mark | {mark:#010x}"
    cluster = [set_mark] if config.masquerade_all else []
    if pods and not config.masquerade_all:
        cluster = [f"{ip} saddr != {_network(pods)} {set_mark}"]
    return "".join(
        [
            _block("chain", "pick", "meta priority & fff0:0 vmap @picks"),
            _block("chain", "masqueraded-traffic", set_mark, "goto pick"),
            _block("chain", "cluster-traffic", *cluster, "goto pick"),
            _block("chain", "services", *lines),
            _hook("nat-prerouting", "nat", "prerouting", "dstnat", "jump services"),
            _hook("nat-output", "nat", "output", "-100", "jump services"),
            _postrouting(family, ip, mark),
        ]
    )


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
        f"ct status dnat {' '.join(same)} masquerade fully-random",
        f"meta mark & {mark:#010x} == {mark:#010x} goto masquerading",
    )


def _masks(family: int) -> list[str]:
    return [_text(family, 0xFF << shift) for shift in _shifts(family)]


def _filter_chains(ip: str, service_networks: tuple[Network, ...]) -> str:
    destination = f"{ip} daddr . meta l4proto . th dport"
    firewall = f"{destination} @firewalled {destination} . {ip} saddr != @firewall-allowed drop"
    nodeport = f"{ip} daddr @nodeport-ips meta l4proto . th dport"
    check = [f"{destination} @drop-services drop", f"{destination} @reject-services reject"]
    check.append(f"{ip} daddr @cluster-ips reject")
    check += [f"{ip} daddr {_network(network)} drop" for network in service_networks]
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
