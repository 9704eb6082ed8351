"""From this engine to kube-proxy and back: each can replace the other's state.

kube-proxy itself is not here.  What stands in for it does to the tables what it does when it starts: it takes
base chains away and makes them again, empties the chains and sets that it knows by name, and deletes those
that it takes for its own by the way they are named.
"""

from __future__ import annotations

import json
import time

import pytest

from engine.proxier import Proxier
from harness.modes import iptables, nftables
from harness.places.place import Place

from .worlds import CONFIG, story

HOOKS = {
    "filter-prerouting-pre-dnat": "filter hook prerouting priority -110",
    "filter-output-pre-dnat": "filter hook output priority -110",
    "filter-input": "filter hook input priority 0",
    "filter-forward": "filter hook forward priority 0",
    "filter-output": "filter hook output priority 0",
    "nat-prerouting": "nat hook prerouting priority -100",
    "nat-output": "nat hook output priority -100",
    "nat-postrouting": "nat hook postrouting priority 100",
}
CHAINS = (
    "cluster-ips-check", "service-endpoints-check", "nodeport-endpoints-check", "firewall-check", "services",
    "masquerading", "mark-for-masquerade", "reject-chain",
)  # fmt: skip
STORY = story(3, services=60)
SERVICE = "ULMVA6XW-ns/web/tcp/http"


def everything(place: Place, ip: str, kind: str) -> list[str]:
    """Names of all sets, maps or chains of the table."""
    listed = json.loads(place.run(["nft", "-j", "list", "table", ip, "kube-proxy"], b"").stdout)["nftables"]
    return [each[kind]["name"] for each in listed if kind in each]


def other_starts(place: Place, family: int, sticky: bool = True) -> None:
    """The other proxy's first transaction, followed by one Service with session affinity."""
    ip, address = ("ip", "ipv4_addr") if family == 4 else ("ip6", "ipv6_addr")
    destination, table = f"{address} . inet_proto . inet_service", f"{ip} kube-proxy"
    lines = [f'add table {table} {{ comment "rules for kube-proxy" ; }}']
    found = place.run(["nft", "list", "table", ip, "kube-proxy"], b"").returncode == 0
    chains = everything(place, ip, "chain") if found else []
    sets = [*everything(place, ip, "set"), *everything(place, ip, "map")] if found else []
    for name, hook in HOOKS.items():
        made = f"add chain {table} {name} {{ type {hook} ; }}"
        lines += [made, f"delete chain {table} {name}", made]
    for name in CHAINS:
        lines += [f"add chain {table} {name}", f"flush chain {table} {name}"]
    for kind, name, of in (
        ("set", "cluster-ips", address), ("set", "nodeport-ips", address),
        ("map", "firewall-ips", f"{destination} : verdict"), ("map", "service-ips", f"{destination} : verdict"),
        ("map", "no-endpoint-services", f"{destination} : verdict"),
        ("map", "service-nodeports", "inet_proto . inet_service : verdict"),
        ("map", "no-endpoint-nodeports", "inet_proto . inet_service : verdict"),
    ):  # fmt: skip
        lines += [f"add {kind} {table} {name} {{ type {of} ; }}", f"flush {kind} {table} {name}"]
    lines.append(f"add rule {table} nat-prerouting jump services")
    lines.append(f"add rule {table} services {ip} daddr . meta l4proto . th dport vmap @service-ips")
    lines += [f"flush chain {table} {name}" for name in chains if "/" in name]
    lines += [f"delete chain {table} {name}" for name in chains if "/" in name]
    lines += [f"delete set {table} {name}" for name in sets if name.startswith("affinity-")]
    if sticky:
        lines += [
            f"add set {table} affinity-{SERVICE} {{ type {address} ; flags dynamic,timeout ; timeout 100s ; }}",
            f"add chain {table} service-{SERVICE}",
            f"add rule {table} service-{SERVICE} {ip} saddr @affinity-{SERVICE} accept",
            f"add rule {table} service-{SERVICE} update @affinity-{SERVICE} {{ {ip} saddr }}",
        ]
    done = place.run(["nft", "-f", "-"], "".join(f"{line}\n" for line in lines).encode())
    assert done.returncode == 0, done.stderr.decode()


def ours(place: Place) -> dict[int, object]:
    """Start on whatever is there, and what each family then does."""
    with nftables.real(place) as real:
        proxier = Proxier("nftables", CONFIG, real.kernel, time.perf_counter, "node-0001")
        for event in STORY:
            proxier.state.observe(*event)
        proxier.sync()
        return {family: real.view.behaviour(family) for family in (4, 6)}


def test_nftables_to_iptables_and_back(namespace):
    place = Place("netns", namespace.socket, namespace.run)
    assert any(b'"ClientIP"' in manifest for _, _, manifest in STORY)
    wanted = ours(place)
    for _ in range(2):
        for family, ip in ((4, "ip"), (6, "ip6")):
            assert "sticky-tcp" in everything(place, ip, "map")
            other_starts(place, family)
            hooked = place.run(["nft", "list", "chain", ip, "kube-proxy", "nat-postrouting"], b"").stdout.decode()
            assert "masquerade" not in hooked, "nothing of ours is reached any more"
        assert ours(place) == wanted
        for ip in ("ip", "ip6"):
            assert not [name for name in everything(place, ip, "chain") if "/" in name], "nothing of its own is left"


PREFIXES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-FW-", "KUBE-XLB-", "KUBE-EXT-", "KUBE-SEP-")
TOPS = ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-FORWARD", "KUBE-POSTROUTING",
        "KUBE-MARK-MASQ", "KUBE-PROXY-FIREWALL", "KUBE-FIREWALL")  # fmt: skip


def emptied(saved: str) -> str:
    """What the other proxy restores when it starts without Services: its chains empty, those of Services gone."""
    lines: list[str] = []
    for table in saved.split("*")[1:]:
        chains = [line[1:].split()[0] for line in table.splitlines() if line.startswith(":")]
        known = [name for name in chains if name.startswith((*PREFIXES, *TOPS))]
        gone = [name for name in known if name.startswith(PREFIXES)]
        lines += [f"*{table.split()[0]}", *(f":{name} - [0:0]" for name in known)]
        lines += [*(f"-X {name}" for name in gone), "COMMIT"]
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_iptables_there_and_back_again(namespace, variant):
    place = Place("netns", namespace.socket, namespace.run)
    wanted = None
    with iptables.real(place, variant) as real:
        for _ in range(2):
            proxier = Proxier("iptables", CONFIG, real.kernel, time.perf_counter, "node-0001")
            for event in STORY:
                proxier.state.observe(*event)
            proxier.sync()
            found = {family: real.view.behaviour(family) for family in (4, 6)}
            wanted = wanted or found
            assert found == wanted
            for tool in ("iptables", "ip6tables"):
                text = emptied(place.run([f"{tool}-{variant}-save"], b"").stdout.decode())
                assert "-X KUBE-SEP-" in text
                done = place.run([f"{tool}-{variant}-restore", "--noflush"], text.encode())
                assert done.returncode == 0, done.stderr.decode()
