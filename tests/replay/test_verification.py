"""A kernel that does not hold what the events say is found out."""

from __future__ import annotations

import pytest

from engine.kernel.base import Applied
from harness.modes import nftables
from harness.modes.place import Place
from harness.replay.kernels import Target, open_kernel
from harness.replay.schedule import Window
from harness.replay.session import Options, Session

DEMO = "recordings/demo.jsonl"
INITIAL_ONLY = Options(window=Window(until=("t", 0)))


class Forgetful:
    """Programs a real or remembered kernel, but loses part of what it is told."""

    def __init__(self, inner, lose) -> None:
        self._inner, self._lose = inner, lose

    def apply(self, program) -> Applied:
        for change in program.sets:
            self._lose(change)
        return self._inner.apply(program)


def lose_one_endpoint(change) -> None:
    if change.name == "tcp-endpoints" and len(change.add) > 50:
        change.add.pop()


def swap_two_services(change) -> None:
    if change.name == "services" and len(change.add) > 10:
        (first, a), (second, b) = change.add[:2]
        change.add[:2] = [(first, b), (second, a)]


def forget_a_reject(change) -> None:
    if change.name == "cluster-ips" and len(change.add) > 10:
        change.add.pop()


@pytest.mark.parametrize("lose", [lose_one_endpoint, swap_two_services, forget_a_reject])
def test_what_the_kernel_lacks_is_seen(lose):
    opened = nftables.memory()
    target = Target(Forgetful(opened.kernel, lose), opened.view, {"kind": "memory"}, None)
    result = Session(DEMO, INITIAL_ONLY, target, lambda *_: None).run()
    assert result.verified is False
    assert result.differences


def test_rules_flushed_behind_its_back_lose_connections(kernel_namespaces):
    """The packets' own judgement: elements are whole, but the rules that use them are gone."""
    with open_kernel("netns", "nftables") as target:
        place = target.place

        class Flushing:
            def apply(self, program):
                applied = target.kernel.apply(program)
                place.run(["nft", "flush", "chain", "ip", "kube-proxy", "services"], b"")
                return applied

        flushed = Target(Flushing(), target.view, target.facts, Place("netns", place.make_socket, place.run))
        result = Session(DEMO, INITIAL_ONLY, flushed, lambda *_: None).run()
    assert result.verified is False
    assert all("a connection" in line for line in result.differences)
