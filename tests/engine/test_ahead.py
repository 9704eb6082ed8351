"""A full program is written while it is computed: it has no effect before it is complete, whatever fails."""

from __future__ import annotations

import errno
import logging
import threading
import time

import pytest

from engine.backends.nftables import layout
from engine.backends.nftables.program import NftablesProgram, Part
from engine.config import ProxyConfig
from engine.kernel.interface import KernelError
from engine.kernel.netlink import NetlinkError, Refusal
from engine.kernel.nftables.netlink import get_table, is_dormant
from engine.kernel.nftables.real import SHADOW
from engine.proxier import Proxier, SyncError
from harness.judge.readback.nftables_judge import SETS
from harness.modes import nftables
from harness.places.place import Place

from .test_kernel import held
from .worlds import CONFIG, story

STORY = story(3, services=60, churn=0)
NEWSETELEM = 0x0A0C


@pytest.fixture
def real(namespace, monkeypatch):
    """An opened kernel; parts are so small that there are many."""
    monkeypatch.setattr(layout, "PART", 50)
    monkeypatch.setattr(layout, "SERVICES_BETWEEN_PARTS", 1)
    with nftables.real(Place("netns", namespace.socket, namespace.run)) as opened:
        yield opened


class Whole:
    """Takes programs only when they are complete."""

    def __init__(self, kernel) -> None:
        self.apply = kernel.apply


def loaded(kernel, config: ProxyConfig = CONFIG, prepared: bool = True) -> Proxier:
    """A proxier that has observed everything."""
    proxier = Proxier("nftables", config, kernel, time.perf_counter, "node-0001")
    if prepared:
        proxier.prepare()
    for event in STORY:
        proxier.state.observe(*event)
    return proxier


def expected() -> dict:
    """What both families do, and the digest."""
    memory = nftables.memory()
    proxier = loaded(memory.kernel)
    proxier.sync()
    return {4: memory.view.behaviour(4), 6: memory.view.behaviour(6), "digest": proxier.digest}


def state(kernel, family: int, table: str) -> str:
    """Whether a table is absent, dormant or live."""
    found = kernel._found(get_table(family, table))
    return "absent" if found is None else "dormant" if is_dormant(found) else "live"


def family_of(requests: list[bytes]) -> int:
    return 4 if requests[0][16] == 2 else 6


def each_transaction(kernel, monkeypatch, before) -> None:
    """Call `before(family, requests)` before each transaction."""
    send = kernel._connection.transaction

    def transaction(requests, *rest):
        before(family_of(requests), requests)
        return send(requests, *rest)

    monkeypatch.setattr(kernel._connection, "transaction", transaction)


def elements(requests: list[bytes]) -> bool:
    return any(int.from_bytes(request[4:6], "little") == NEWSETELEM for request in requests)


def refusal() -> NetlinkError:
    return NetlinkError([Refusal(-1, errno.ENOMEM)])


def test_a_table_has_no_hooks_before_it_is_complete(real, monkeypatch):
    seen: dict[int, list[str]] = {4: [], 6: []}
    each_transaction(
        real.kernel, monkeypatch, lambda family, _: seen[family].append(state(real.kernel, family, "kube-proxy"))
    )
    proxier = loaded(real.kernel)
    proxier.sync()
    assert all(len(states) > 5 for states in seen.values())
    assert {*seen[4], *seen[6]} == {"dormant"}
    assert {state(real.kernel, family, "kube-proxy") for family in (4, 6)} == {"live"}
    assert {4: real.view.behaviour(4), 6: real.view.behaviour(6), "digest": proxier.digest} == expected()


def test_without_threads_the_program_is_sent_as_a_whole(real, monkeypatch, caplog):
    def start(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        loaded(real.kernel).sync()
    assert "can't start new thread" in caplog.text
    assert {family: real.view.behaviour(family) for family in (4, 6)} == {f: expected()[f] for f in (4, 6)}


def test_a_program_sent_in_parts_has_the_same_result(real):
    loaded(real.kernel).sync()
    ahead = {family: held(real, family) for family in (4, 6)}
    loaded(Whole(real.kernel), prepared=False).sync()
    assert {family: held(real, family) for family in (4, 6)} == ahead
    assert sum(len(ahead[4][name]) for name in SETS) > 100


def test_a_restart_is_covered_at_every_moment(real, monkeypatch):
    loaded(real.kernel).sync()
    seen: list[tuple[str, str]] = []

    def look(family, _requests):
        seen.append(tuple(state(real.kernel, family, table) for table in ("kube-proxy", SHADOW)))

    each_transaction(real.kernel, monkeypatch, look)
    loaded(real.kernel).sync()
    assert {*seen} == {("live", "dormant"), ("dormant", "live")}
    assert {state(real.kernel, family, SHADOW) for family in (4, 6)} == {"absent"}
    assert {family: real.view.behaviour(family) for family in (4, 6)} == {f: expected()[f] for f in (4, 6)}


def test_after_a_refusal_in_the_middle_everything_is_written_again(real, monkeypatch, caplog):
    count = 0

    def third(family, requests):
        nonlocal count
        count += family == 4 and elements(requests)
        if family == 4 and count == 3:
            count += 1
            raise refusal()

    each_transaction(real.kernel, monkeypatch, third)
    with caplog.at_level(logging.WARNING):
        proxier = loaded(real.kernel)
        proxier.sync()
    assert "Failed to write ahead: NetlinkError: nf_tables rejected" in caplog.text
    assert {4: real.view.behaviour(4), 6: real.view.behaviour(6), "digest": proxier.digest} == expected()


@pytest.mark.parametrize("before", ["absent", "live"], ids=["first start", "restart"])
def test_a_rejected_program_leaves_nothing_and_does_not_affect_the_other_family(real, monkeypatch, before):
    if before == "live":
        loaded(real.kernel).sync()
    refuse = True

    def no_elements(family, requests):
        if refuse and family == 6 and elements(requests):
            raise refusal()

    each_transaction(real.kernel, monkeypatch, no_elements)
    proxier = loaded(real.kernel)
    with pytest.raises(SyncError) as failed:
        proxier.sync()
    assert list(failed.value.refused) == [6]
    assert [state(real.kernel, 6, table) for table in ("kube-proxy", SHADOW)] == [before, "absent"]
    assert real.view.behaviour(4) == expected()[4]
    refuse = False
    proxier.sync()
    assert real.view.behaviour(6) == expected()[6]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it dies in its thread as well
@pytest.mark.parametrize("before", ["absent", "live"], ids=["first start", "restart"])
def test_a_process_that_dies_in_the_middle_is_followed_by_a_clean_start(real, namespace, monkeypatch, before):
    if before == "live":
        loaded(real.kernel).sync()
    sent = 0

    def no_more(family, requests):
        nonlocal sent
        sent += elements(requests)
        if sent >= 3:
            raise SystemExit

    with monkeypatch.context() as patch:
        each_transaction(real.kernel, patch, no_more)
        with pytest.raises((SystemExit, KernelError)):
            loaded(real.kernel).sync()
    halves = [state(real.kernel, 4, table) for table in ("kube-proxy", SHADOW)]
    assert halves == (["dormant", "absent"] if before == "absent" else ["live", "dormant"])
    with nftables.real(Place("netns", namespace.socket, namespace.run)) as again:
        loaded(again.kernel).sync()
        assert {family: again.view.behaviour(family) for family in (4, 6)} == {f: expected()[f] for f in (4, 6)}
        assert {state(again.kernel, family, SHADOW) for family in (4, 6)} == {"absent"}


def test_a_program_with_other_rules_than_prepared(real):
    """The networks of Services became known meanwhile."""
    proxier = loaded(real.kernel, ProxyConfig())
    proxier.reconfigure(CONFIG)
    proxier.sync()
    assert {family: real.view.behaviour(family) for family in (4, 6)} == {f: expected()[f] for f in (4, 6)}


def test_parts_of_another_program_are_written_again(real):
    """A backend that failed in the middle has handed over what the next one may not have."""
    stray = layout.NftablesBackend(4, CONFIG)
    stray.prepare(lambda part: real.kernel.ahead(4, part))
    change = layout.SetChange("cluster-ips", add=[bytes([10, 1, 2, 3])], key_bytes=4)
    real.kernel.ahead(4, Part((), change, 1))
    loaded(real.kernel).sync()
    assert bytes([10, 1, 2, 3]) not in held(real, 4)["cluster-ips"]
    assert real.view.behaviour(4) == expected()[4]


def test_an_abandoned_table_is_removed(real):
    proxier = loaded(real.kernel)
    proxier.abandon()
    assert {state(real.kernel, family, "kube-proxy") for family in (4, 6)} == {"absent"}
    real.kernel.apply(NftablesProgram(4, (), ()))
