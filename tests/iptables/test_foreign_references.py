"""Our chains that other programs' rules jump to: they are emptied, kept and reported; all else is programmed."""

from __future__ import annotations

import logging

import pytest

from engine.kernel.iptables import saved
from engine.kernel.iptables.variant import tool
from harness.modes import iptables
from harness.places.place import Place

from .programs import BOTH, E2, end, observe, service, slice_, synced

VARIANTS = pytest.mark.parametrize("variant", ["legacy", "nft"])
OTHERS = "KUBE-XLB-CCCCCCCCCCCCCCCC"


@pytest.fixture
def place(namespace):
    return Place("netns", namespace.socket, namespace.run)


def iptables_of(place: Place, variant: str, *words: str) -> None:
    done = place.run([tool(variant, 4), "-t", "nat", *words], b"")
    assert done.returncode == 0, done.stderr


def chains(real) -> dict[str, list[str]]:
    return saved.parse(real.view.save(4))["nat"]


def lead_to(place: Place, variant: str, real, *prefixes: str, from_: str = OTHERS) -> list[str]:
    """Rules of a foreign chain that jump to the first chain of each prefix; returns those chains."""
    found = [next(name for name in sorted(chains(real)) if name.startswith(prefix)) for prefix in prefixes]
    if from_ == OTHERS:
        iptables_of(place, variant, "-N", OTHERS)
    for chain in found:
        iptables_of(place, variant, "-A", from_, *(("-p", "tcp") if from_ != OTHERS else ()), "-j", chain)
    return found


@VARIANTS
@pytest.mark.parametrize("from_", [OTHERS, "OUTPUT"])
def test_a_change_that_cannot_delete_a_chain_is_applied(place, variant, from_, caplog):
    """The endpoint and then the Service go; another Service that comes meanwhile is programmed."""
    more = service(name="more", ip="172.30.0.60"), slice_(end(E2, "n1"), name="more-a", of="more")
    with iptables.real(place, variant) as real:
        proxier = synced(real.kernel, service(), slice_(*BOTH))
        held = lead_to(place, variant, real, "KUBE-SVC-", "KUBE-SEP-", from_=from_)
        with caplog.at_level(logging.WARNING):
            observe(proxier, service(), slice_(*BOTH), event="DELETED")
            observe(proxier, *more)
            assert not proxier.sync().full, "no failure came before"
        now = chains(real)
        assert all(now[chain] == [] for chain in held)
        assert sum(chain.startswith("KUBE-SEP-") for chain in now) == 2, (
            "the one that is held, and that of the new Service"
        )
        assert sum("172.30.0.60" in rule for rule in now["KUBE-SERVICES"]) == 1
        assert not any("172.30.0.41" in rule for rule in now["KUBE-SERVICES"])
        assert all(chain in caplog.text for chain in held)
        observe(proxier, service(), slice_(*BOTH))
        assert not proxier.sync().full
        assert all(chains(real)[chain] for chain in held), "filled again when they are wanted again"


@VARIANTS
def test_a_start_keeps_chains_that_it_cannot_delete(place, variant, caplog):
    with iptables.real(place, variant) as real:
        synced(real.kernel, service(), slice_(*BOTH), service(name="old", ip="172.30.0.9"), slice_(of="old", name="o"))
        held = lead_to(place, variant, real, "KUBE-SVC-")
        iptables_of(place, variant, "-N", "KUBE-SEP-AAAAAAAAAAAAAAAA")
        with caplog.at_level(logging.WARNING):
            proxier = synced(real.kernel)
        now = chains(real)
        assert [chain for chain in now if chain.startswith(("KUBE-SVC-", "KUBE-SEP-"))] == held
        assert now[held[0]] == [] and held[0] in caplog.text
        iptables_of(place, variant, "-F", OTHERS)
        proxier.resync()
        proxier.sync()
        assert held[0] not in chains(real), "deleted as soon as that can be done"


@VARIANTS
def test_clean_up_keeps_chains_that_it_cannot_delete(place, variant):
    with iptables.real(place, variant) as real:
        synced(real.kernel, service(), slice_(*BOTH))
        iptables_of(place, variant, "-N", "MINE")
        (service_chain,) = lead_to(place, variant, real, "KUBE-SVC-", from_="MINE")
        real.kernel.clean(4)
        now = chains(real)
        assert [chain for chain in now if chain.startswith("KUBE-")] == [service_chain]
        assert now[service_chain] == []


@VARIANTS
def test_other_rejections_are_still_errors(place, variant):
    """A kept chain must not hide missing rules that an edit relies on."""
    with iptables.real(place, variant) as real:
        proxier = synced(real.kernel, service(), slice_(*BOTH))
        lead_to(place, variant, real, "KUBE-SVC-")
        iptables_of(place, variant, "-F", "KUBE-SERVICES")
        observe(proxier, service(), event="DELETED")
        with pytest.raises(RuntimeError, match="restore refused line"):
            proxier.sync()
        assert proxier.sync().full
        assert chains(real)["KUBE-SERVICES"]
