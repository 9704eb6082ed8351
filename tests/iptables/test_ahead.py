"""The nft variant writes chains of Services while the rest is computed: nothing differs, whatever fails."""

from __future__ import annotations

import errno
import time

import pytest

from engine.backends.iptables import layout
from engine.kernel.iptables import IptablesKernel, netlink
from engine.kernel.netlink import NetlinkError, Refusal
from engine.proxier import Proxier
from harness.modes import iptables
from harness.places.place import Place
from tests.engine.worlds import CONFIG, story
from tests.iptables.test_kernel import plain

STORY = story(3, services=60, churn=0)


@pytest.fixture
def kernel(namespace, monkeypatch):
    """Takes parts of the first few endpoints on, in small transactions."""
    monkeypatch.setattr(layout, "LARGE_CLUSTER_ENDPOINTS", 5)
    monkeypatch.setattr(netlink, "_FIRST_BYTES", 1000)
    with iptables.real(Place("netns", namespace.socket, namespace.run), "nft") as opened:
        yield opened.kernel


class Whole:
    """Takes programs only when they are complete."""

    def __init__(self, kernel: IptablesKernel) -> None:
        self.apply = kernel.apply


def loaded(kernel) -> Proxier:
    """A proxier that has observed everything."""
    proxier = Proxier("iptables", CONFIG, kernel, time.perf_counter, "node-0001")
    for event in STORY:
        proxier.state.observe(*event)
    return proxier


def saved(kernel) -> list[list[str]]:
    return [plain(kernel.save(family)) for family in (4, 6)]


def expected() -> list[list[str]]:
    memory = iptables.memory()
    loaded(memory.kernel).sync()
    return [plain(memory.view.save(family)) for family in (4, 6)]


def transactions(kernel, monkeypatch, refused=lambda _: False) -> list[int]:
    """The numbers of requests of each transaction; those that are `refused`, by number, fail."""
    sizes: list[int] = []
    send = kernel._writer._connection.transaction

    def transaction(requests, *rest):
        sizes.append(len(requests))
        if refused(len(sizes)):
            raise NetlinkError([Refusal(-1, errno.ENOMEM)])
        return send(requests, *rest)

    monkeypatch.setattr(kernel._writer._connection, "transaction", transaction)
    return sizes


def at_apply(kernel, monkeypatch, sizes: list[int]) -> list[int]:
    """How many transactions there were when each program was applied."""
    found: list[int] = []
    apply = kernel.apply

    def applied(program):
        found.append(len(sizes))
        return apply(program)

    monkeypatch.setattr(kernel, "apply", applied)
    return found


def test_chains_are_written_while_the_rest_is_computed(kernel, monkeypatch):
    sizes = transactions(kernel, monkeypatch)
    applied = at_apply(kernel, monkeypatch, sizes)
    proxier, memory = loaded(kernel), iptables.memory()
    proxier.sync()
    assert applied[0] > 3
    assert saved(kernel) == expected()
    whole = loaded(Whole(memory.kernel))
    whole.sync()
    assert proxier.digest == whole.digest


def test_a_table_with_chains_of_services_is_only_changed_by_a_complete_program(kernel, monkeypatch):
    loaded(kernel).sync()
    sizes = transactions(kernel, monkeypatch)
    applied = at_apply(kernel, monkeypatch, sizes)
    loaded(kernel).sync()
    assert applied[0] == 0
    assert saved(kernel) == expected()


@pytest.mark.parametrize("number", [1, 3])
def test_after_a_refusal_the_whole_program_is_written(kernel, monkeypatch, caplog, number):
    transactions(kernel, monkeypatch, lambda count: count == number)
    loaded(kernel).sync()
    assert "Failed to write chains ahead" in caplog.text
    assert saved(kernel) == expected()


def test_chains_of_an_abandoned_program_are_removed(kernel, monkeypatch):
    sizes = transactions(kernel, monkeypatch)
    monkeypatch.setattr(layout.IptablesBackend, "_edits", lambda *_: 1 / 0)
    proxier = loaded(kernel)
    with pytest.raises(Exception, match="division"):
        proxier.sync((4,))
    assert len(sizes) > 3
    proxier.abandon()
    assert "KUBE-SEP-" not in kernel.save(4)


def test_chains_of_an_earlier_program_that_was_not_applied_are_written_again_or_removed(kernel, monkeypatch):
    proxier = loaded(kernel)
    with monkeypatch.context() as patch:
        patch.setattr(layout.IptablesBackend, "_edits", lambda *_: 1 / 0)
        with pytest.raises(Exception, match="division"):
            proxier.sync((4,))
    kept = STORY[: len(STORY) * 2 // 3]
    again = Proxier("iptables", CONFIG, kernel, time.perf_counter, "node-0001")
    memory = iptables.memory()
    alone = Proxier("iptables", CONFIG, memory.kernel, time.perf_counter, "node-0001")
    for each in (again, alone):
        for event in kept:
            each.state.observe(*event)
        each.sync()
    assert saved(kernel) == [plain(memory.view.save(family)) for family in (4, 6)]
