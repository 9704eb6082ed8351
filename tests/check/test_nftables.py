"""The judge detects every duplicate rule and every change of mode nftables."""

from __future__ import annotations

import copy
import re
import socket
import struct

import pytest

from engine.kernel.netlink import NETFILTER
from harness.judge.readback import elements as readback
from harness.judge.readback.nftables_judge import NftablesState, judge
from harness.modes import nftables
from harness.places.namespace import Namespace
from harness.places.place import Place

from ..netlink.sockets import Deaf, Wrapped
from .held import FAMILIES, RICH, program

pytestmark = pytest.mark.xdist_group("check")

_DONE = 3
_COUNTED = re.compile(r"(pick|draw|large)-(\d+)")


@pytest.fixture(scope="module")
def real(kernel_namespaces):
    """What a kernel holds after the recording, read once; expected, and the settings."""
    with Namespace() as namespace:
        place = Place("netns", namespace.socket, namespace.run)
        with nftables.real(place) as opened:
            programmed = program(opened, "nftables", RICH)
            return programmed, {family: opened.view.read(family) for family in FAMILIES}


def seen(programmed, family: int, state: NftablesState) -> list[str]:
    return judge(family, state, programmed.expected[family], programmed.settings).differences


def each_rule(state: NftablesState):
    """Chains and places; of those of which there is one for each count, three."""
    for chain, rules in state.table.chains.items():
        counted = _COUNTED.fullmatch(chain)
        if counted is None or int(counted[2]) in (1, 2, 256):
            yield from ((chain, place) for place in range(len(rules)))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_single_duplicate_rule_is_detected(real, family):
    programmed, state = real[0], real[1][family]
    assert seen(programmed, family, state) == []
    unseen = []
    for chain, place in list(each_rule(state)):
        rules = state.table.chains[chain]
        rules.insert(place, rules[place])
        if not seen(programmed, family, state):
            unseen.append(f"{chain}: {' '.join(rules[place])}")
        del rules[place]
    assert unseen == [] and seen(programmed, family, state) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_changed_chains_hooks_policies_sets_and_verdicts_are_detected(real, family):
    programmed, right = real[0], real[1][family]
    for name, (kind, hook, priority) in right.table.hooks.items():
        for wrong in ((kind, hook, priority + 1), ("route", hook, priority), (kind, "ingress", priority)):
            state = right._replace(table=copy.deepcopy(right.table))
            state.table.hooks[name] = wrong
            assert seen(programmed, family, state), (name, wrong)
        state = right._replace(table=copy.deepcopy(right.table))
        state.table.policies[name] = "drop"
        assert seen(programmed, family, state), name
    for name in right.table.sets:
        state = right._replace(table=copy.deepcopy(right.table))
        del state.table.sets[name]
        assert seen(programmed, family, state), name
    for place, verb in list(right.verbs.items())[::20]:
        right.verbs[place] = "goto" if verb == "jump" else "jump"
        assert seen(programmed, family, right), place
        right.verbs[place] = verb
    state = right._replace(table=copy.deepcopy(right.table))
    state.table.chains["filter-forward-too"] = [["drop"]]
    assert "chain filter-forward-too is unexpected" in seen(programmed, family, state)


WORDS = {
    "drop": "reject", "reject": "drop", "goto": "jump", "0x00004000": "0x00008000", "saddr": "daddr",
    "local": "unicast", "fully-random": "random", "new": "established", "services": "local-services", "!=": "==",
    "&": "|", "dnat": "snat", "tcp": "udp", "f:ffff": "7:ffff",
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_changed_word_of_this_kind_is_detected(real, family):
    programmed, state = real[0], real[1][family]
    for chain, place in list(each_rule(state)):
        words = state.table.chains[chain][place]
        for at, word in enumerate(list(words)):
            if word in WORDS:
                words[at] = WORDS[word]
                assert seen(programmed, family, state), f"{chain}: {' '.join(words)}"
                words[at] = word


def test_a_flushed_chain_of_a_real_kernel_is_detected(namespace):
    place = Place("netns", namespace.socket, namespace.run)
    with nftables.real(place) as opened:
        programmed = program(opened, "nftables", RICH)
        before: list[str] = []
        for chain in (
            "nat-prerouting", "nat-postrouting", "filter-prerouting-pre-dnat", "filter-output-pre-dnat", "filter-input",
            "filter-forward", "filter-output", "services", "pick", "pick-2", "masquerading", "cluster-traffic",
        ):  # fmt: skip
            done = place.run(["nft", "flush", "chain", "ip", "kube-proxy", chain], b"")
            assert done.returncode == 0, done.stderr
            now = programmed.view.check(4, programmed.expected[4], programmed.settings).differences
            assert set(now) != set(before) and any(line.startswith(f"chain {chain}:") for line in now), chain
            before = now


class _OutOfStep(Wrapped):
    """Each reply is preceded by the rest of another dump."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.left: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.left.append(struct.pack("=IHHIIi", 20, _DONE, 0, 0, 0, 0))
        return self._sock.send(data)

    def recv(self, size: int) -> bytes:
        return self.left.pop() if self.left else self._sock.recv(size)


def test_a_kernel_without_an_answer_or_with_an_unexpected_one(namespace, monkeypatch):
    """Sets are read to the end of their own dump, within a time limit."""
    rules = b"table ip kube-proxy {\n set s {\n type mark\n elements = { 1 }\n }\n}\n"
    assert namespace.run(["nft", "-f", "-"], rules).returncode == 0
    with namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as sock:
        assert readback.dump(_OutOfStep(sock), 4, "s") == {struct.pack("=I", 1): b""}
        monkeypatch.setattr(readback, "_ANSWER_SECONDS", 0.1)
        with pytest.raises(readback.KernelReadError, match="set s: timed out"):
            readback.dump(Deaf(sock), 4, "s")
