"""The judge detects every duplicate or changed rule of iptables mode."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from harness.judge.readback.iptables_judge import judge
from harness.modes import iptables
from harness.places.place import Place

from .held import FAMILIES, RICH, program

pytestmark = pytest.mark.xdist_group("check")

_OWN = re.compile(r'"[^"]*"|KUBE-(SVC|SVL|EXT|SEP|FW)-\S+|[0-9a-f.:]*\d[0-9a-f.:]*')
"""Patterns in which two rules of one kind differ."""


@pytest.fixture(scope="module")
def remembered():
    return program(iptables.memory(), "iptables", RICH)


def unseen(programmed, change, family: int, each_kind: int) -> list[str]:
    """The rules whose modification by `change(rules, place)` the judge does not detect."""
    held, expected, settings = programmed.view.read(family), programmed.expected[family], programmed.settings
    assert judge(family, held, expected, settings).differences == []
    found: list[str] = []
    kinds: Counter[str] = Counter()
    for (table, _), rules in held.tables.chains.items():
        before = list(rules)
        for place, line in enumerate(before):
            kind = f"{table} {_OWN.sub('', line)}"
            kinds[kind] += 1
            change(rules, place)
            if rules != before and kinds[kind] <= each_kind and not judge(family, held, expected, settings).differences:
                found.append(line)
            rules[:] = before
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_every_duplicate_rule_is_detected(remembered, family):
    assert unseen(remembered, lambda rules, place: rules.insert(place, rules[place]), family, each_kind=3) == []


CHANGES = {
    "accept instead of what follows -j": (r"-j \S+", "-j ACCEPT"),
    "a mark's other bit": ("0x4000", "0x8000"),
    "no fully random port": (" --random-fully", ""),
    "another protocol": (r"-p (tcp|udp|sctp) ", "-p dccp "),
    "another port": (r"--dport \d", "--dport 9"),
    "another chance": ("--probability 0", "--probability 1"),
    "another timeout": (r"--seconds ", "--seconds 1"),
    "a reset": (r"--reject-with \S+", "--reject-with tcp-reset"),
    "the opposite": ("! ", ""),
    "of every state": (r"-m conntrack (! )?--ctstate \S+", ""),
    "one interface's only": (r"^-A (\S+) ", r"-A \1 -o eth0 "),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pattern", CHANGES)
def test_every_change_of_this_kind_is_detected(remembered, pattern, family):
    old, new = CHANGES[pattern]

    def change(rules: list[str], place: int) -> None:
        rules[place] = re.sub(old, new, rules[place], count=1)

    assert unseen(remembered, change, family, each_kind=2) == []


@pytest.mark.parametrize("variant", iptables.VARIANTS)
def test_real_and_in_memory_kernel_read_alike_and_missing_parts_are_detected(namespace, variant):
    place = Place("netns", namespace.socket, namespace.run)
    with iptables.real(place, variant) as opened:
        real = program(opened, "iptables", RICH)
        for family in FAMILIES:
            assert real.view.check(family, real.expected[family], real.settings).differences == []
        real.view.read_ahead(FAMILIES)
        assert real.view.check(6, real.expected[6], real.settings).differences == []
        assert real.view.check(4, real.expected[4], real.settings).differences == []
        seen = []  # from here on the rules are listed again each time
        for command in (
            "-t nat -D PREROUTING 1", "-t nat -F KUBE-POSTROUTING", "-t filter -D FORWARD 2",
            "-t filter -F KUBE-FORWARD",
            "-t filter -F KUBE-FIREWALL", "-t nat -F KUBE-MARK-MASQ", "-t filter -F KUBE-EXTERNAL-SERVICES",
            "-t filter -P FORWARD DROP", "-t nat -F KUBE-SERVICES",
        ):  # fmt: skip
            tool = ["env", "XTABLES_LOCKFILE=/dev/null", f"iptables-{variant}"]
            done = place.run([*tool, *command.split()], b"")
            assert done.returncode == 0, done.stderr
            before, seen = seen, real.view.check(4, real.expected[4], real.settings).differences
            assert set(seen) != set(before) and seen, command
        place.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv4/conf/all/route_localnet"], b"")
        assert "sysctl net.ipv4.conf.all.route_localnet is 0, expected 1" in (
            real.view.check(4, real.expected[4], real.settings).differences
        )
